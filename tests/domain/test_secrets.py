"""The form of generated secrets."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from usertable.app.secrets import generate_secret, is_generated_secret, proof_of, public_id, secret_of, slow_hash
from usertable.domain.key import Proof

FORM = re.compile(r"ut_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}")
IDS = st.binary(min_size=8, max_size=8)
RANDOM = st.binary(min_size=32, max_size=32)


@given(IDS, RANDOM)
def test_every_generated_secret_has_one_form_and_its_public_id_in_it(id_bytes: bytes, random_bytes: bytes) -> None:
    secret = secret_of(id_bytes, random_bytes)
    assert FORM.fullmatch(secret)
    assert public_id(secret) == secret[3:11]


@given(IDS, RANDOM, RANDOM)
def test_two_secrets_differ_where_their_random_bytes_do(id_bytes: bytes, one: bytes, other: bytes) -> None:
    assert (secret_of(id_bytes, one) == secret_of(id_bytes, other)) is (one == other)


@given(RANDOM, RANDOM)
def test_a_proof_is_that_of_its_own_secret_only(one: bytes, other: bytes) -> None:
    secret, wrong = (secret_of(bytes(8), random_bytes) for random_bytes in (one, other))
    proof = proof_of(secret, b"salt")
    assert is_generated_secret(secret, proof)
    assert is_generated_secret(wrong, proof) is (one == other)
    assert secret.encode() not in proof.hash


@given(st.text(max_size=60).filter(lambda text: not FORM.fullmatch(text)))
def test_nothing_else_is_taken_for_a_generated_secret(text: str) -> None:
    assert public_id(text) == ""


@given(st.sampled_from(["", "x", "\n", " "]), st.sampled_from(["", "x", "\n", " "]))
def test_what_stands_around_a_generated_secret_makes_it_another(before: str, after: str) -> None:
    assert (public_id(before + secret_of(bytes(8), bytes(32)) + after) != "") is (before + after == "")


def test_generated_secrets_are_chosen_by_chance() -> None:
    assert len({generate_secret() for _ in range(100)}) == 100


def test_a_secret_that_was_brought_along_is_hashed_slowly() -> None:
    assert proof_of("brought-along", b"salt") == Proof(slow_hash("brought-along", b"salt"), salt=b"salt")
