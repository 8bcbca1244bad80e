"""The platform's wire format as a :class:`~usertable.dialects.base.Dialect`."""

from __future__ import annotations

from usertable.dialects.base import Dialect, Endpoint
from usertable.dialects.jiguang.answers import OK, encode_refusal, encode_registered, encode_representation
from usertable.dialects.jiguang.requests import decode_register, decode_set
from usertable.dialects.jiguang.vocabulary import ATTRIBUTE_PATH, REGISTER_PATH
from usertable.wire.credentials import basic_credentials

JIGUANG = Dialect(
    language="zh",
    authorization=b"authorization",
    credentials=basic_credentials,
    challenge=(b"www-authenticate", b'Basic realm="usertable", charset="UTF-8"'),
    encode_refusal=encode_refusal,
    set=Endpoint("PUT", ATTRIBUTE_PATH),
    decode_set=decode_set,
    set_done=OK,
    encode_set=encode_representation,
    register=Endpoint("POST", REGISTER_PATH),
    decode_register=decode_register,
    encode_registered=encode_registered,
)
