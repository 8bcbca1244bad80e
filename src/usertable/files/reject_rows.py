"""Refused rows for an import's rejects file: each byte for byte as it was, with its number and its problems.

A row of CSV gets three more cells at its end: `#row`, its number, `#reason`, and `#line`. A line of NDJSON gets two of these
as members at its beginning. A row that does not match the header's columns, or is not a JSON object, is stored as a whole in
`#line`, where a spreadsheet cannot change it. An import reads it from there. So the unchanged file is refused again, row by
row, and each row keeps its first number however often it is imported.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re

import msgspec

from usertable.files.block import Head
from usertable.files.encodings import Encoding
from usertable.files.lines import Lines
from usertable.files.options import Format
from usertable.files.targets import LINE, REASON, ROW

_OURS = (ROW, REASON, LINE)
_encoder = msgspec.json.Encoder()


def rejects_head(head: Head) -> bytes:
    """Return the header of a CSV of refused rows: `phone,level,#row,#reason,#line`."""
    body, end = _without_end(head.raw, head.encoding)
    missing = "".join(f"{head.delimiter}{name}" for name in _OURS if name not in head.columns)
    return head.encoding.mark + body + missing.encode(head.encoding.codec) + (end or _end(head))


def first_number(raw: bytes, head: Head, form: Format, number: int) -> int:
    """Return a row's number in the file that was imported first: its `#row`, or its own number if it has none."""
    if form == "ndjson":
        found = (_members(_text(_without_end(raw, head.encoding)[0], head.encoding)) or {}).get(ROW, b"")
        return int(bytes(found)) if bytes(found).isdigit() else number
    if ROW not in head.columns:
        return number
    cells = _cells(_text(_without_end(raw, head.encoding)[0], head.encoding), head.delimiter, len(head.columns))
    kept = cells[head.columns.index(ROW)] if cells else ""
    return int(kept) if kept.isdecimal() and kept.isascii() else number


def reject_row(raw: bytes, head: Head, number: int, reason: str) -> bytes:
    """Return a row of CSV: `13800000001,abc,7,the value [abc] …,`; if it cannot be read, `,,8,it has 3 cells …,"1,2,3"`."""
    encoding, delimiter = head.encoding, head.delimiter
    body, end = _without_end(raw, encoding)
    if set(head.columns).isdisjoint(_OURS):
        width = len(head.columns)
        line = b""
    elif tuple(head.columns[-3:]) == _OURS:
        width = len(head.columns) - 3
        body, line, number = _without_ours(body, head, number)
    else:
        return _rebuilt(body, head, number, reason) + (end or _end(head))
    body = _in_step(body, encoding)
    if _cells(_text(body, encoding), delimiter, width) is None:
        line = line or _quoted(body, encoding)
        body = _bytes(delimiter * (width - 1), encoding)
    ours = f"{delimiter}{number}{delimiter}{_cell(reason, delimiter)}{delimiter}"
    return body + _bytes(ours, encoding) + line + (end or _end(head))


def _without_ours(body: bytes, head: Head, number: int) -> tuple[bytes, bytes, int]:
    """Return a row of a rejects file without the added cells, its `#line` as written, and its number."""
    edge = re.escape(head.delimiter)
    cell = rf'(?:"(?>(?:[^"]|"")*)"|[^"{edge}\r\n]*+)'
    # With an added byte, the row is read from its end, where the added cells are.
    text = _text(body[len(body) % head.encoding.unit :], head.encoding)
    found = re.search(rf'{edge}"?([0-9]+)"?{edge}{cell}{edge}({cell})\Z', text)
    ours = _bytes(found[0], head.encoding) if found else b""
    if found is None or not body.endswith(ours):
        return body, b"", number
    return body.removesuffix(ours), _bytes(found[2], head.encoding), int(found[1])


def _rebuilt(body: bytes, head: Head, number: int, reason: str) -> bytes:
    """Return a row of a rejects file whose columns somebody moved."""
    columns, text = list(head.columns), _text(body, head.encoding)
    cells = _cells(text, head.delimiter, len(columns))
    found = dict(zip(columns, cells or [""] * len(columns), strict=True))
    ours = {REASON: reason, LINE: found.get(LINE, "") if cells else text}
    kept = found.get(ROW, "")
    row = found | {ROW: kept if kept.isdigit() else str(number)} | ours
    return _bytes(head.delimiter.join(_cell(row[name], head.delimiter) for name in row), head.encoding)


def _cells(text: str, delimiter: str, width: int) -> list[str] | None:
    """Return the cells of one row of `width` cells; None if it is not one."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 and len(rows[0]) == width else None


def _cell(text: str, delimiter: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(rf'["\r\n{re.escape(delimiter)}]', text) else text


def _quoted(body: bytes, encoding: Encoding) -> bytes:
    if encoding.unit > 1:
        # The two bytes of a quote may also occur across two characters.
        return _bytes('"' + _text(body, encoding).replace('"', '""') + '"', encoding)
    return b'"' + body.replace(b'"', b'""') + b'"'


def _in_step(body: bytes, encoding: Encoding) -> bytes:
    """Return a row of a file with two or four bytes per character so that each begins a whole number of characters later.

    An added byte would shift everything after it, including the next rows. It becomes half of a pair, U+DC00 plus the byte,
    which no text contains. So its row is refused until somebody fixes it. Everything else stays unchanged.
    """
    if encoding.unit == 1:
        return body
    with contextlib.suppress(UnicodeDecodeError):
        body.decode(encoding.codec)
        return body
    lines = Lines(io.BytesIO(body), Encoding(encoding.codec), at_cr=True).take(len(body))
    parts = (_without_end(line, encoding) for line in lines)
    return b"".join(_bytes(_text(line, encoding), encoding) + end for line, end in parts)


def _half_pairs(error: UnicodeError) -> tuple[str, int]:
    """Return bytes that are not UTF-16 or UTF-32: halves of pairs as they are, other bytes as halves of pairs."""
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    encoding = Encoding(error.encoding)
    order = "big" if error.encoding.endswith("be") else "little"
    found = []
    for offset in range(0, len(wrong), encoding.unit):
        unit = wrong[offset : offset + encoding.unit]
        code = int.from_bytes(unit, order)  # type: ignore[arg-type]
        is_half = len(unit) == encoding.unit and 0xD800 <= code < 0xE000
        found.append(chr(code) if is_half else "".join(chr(0xDC00 + byte) for byte in unit))
    return "".join(found), error.end


codecs.register_error("usertable.half_pairs", _half_pairs)
_PAIRED = re.compile("([\ud800-\udbff])([\udc00-\udfff])")


def _text(body: bytes, encoding: Encoding) -> str:
    if encoding.unit == 1:
        return body.decode(encoding.codec, "surrogateescape")
    text = body.decode(encoding.codec, "usertable.half_pairs")
    # The character before an added byte may be the other half. In UTF-16, both would form a character.
    return _PAIRED.sub(r"\1\2\2", text) if encoding.unit == 2 else text


def _bytes(text: str, encoding: Encoding) -> bytes:
    try:
        return text.encode(encoding.codec, "surrogateescape" if encoding.unit == 1 else "surrogatepass")
    except UnicodeEncodeError:
        return text.encode(encoding.codec, "backslashreplace")


def _without_end(raw: bytes, encoding: Encoding) -> tuple[bytes, bytes]:
    for end in ("\r\n", "\n", "\r"):
        found = end.encode(encoding.codec)
        if raw.endswith(found):
            return raw.removesuffix(found), found
    return raw, b""


def _end(head: Head) -> bytes:
    return _without_end(head.raw, head.encoding)[1] or "\r\n".encode(head.encoding.codec)


_FIRST_MEMBERS = re.compile(r'\s*\{"#row":([0-9]+),"#reason":"(?>(?:[^"\\]|\\.)*)",?')


def reject_line(raw: bytes, encoding: Encoding, number: int, reason: str) -> bytes:
    """Return a line of NDJSON: `{"#row":7,"#reason":"…","cuid":0}`; if it is not an object,
    `{"#row":8,"#reason":"…","#line":"x"}`."""
    codec = encoding.codec
    body = _without_end(raw, encoding)[0]
    text = body.decode(codec, "replace")
    members = _members(text)
    if found := _FIRST_MEMBERS.match(text):
        number = int(found[1])
        before = found[0].encode(codec)
    else:
        before = text[: text.find("{") + 1].encode(codec)
        if members and not members.keys().isdisjoint((ROW, REASON)):
            # Somebody moved them.
            kept = bytes(members.get(ROW, b""))
            rest = {name: value for name, value in members.items() if name not in (ROW, REASON)}
            return _line({ROW: int(kept) if kept.isdigit() else number, REASON: reason, **rest}, encoding)
    if members is None or not body.startswith(before):
        return _line({ROW: number, REASON: reason, LINE: body.decode(codec, "backslashreplace")}, encoding)
    own = body[len(before) :]
    marks = _encoder.encode({ROW: number, REASON: reason}).decode().removesuffix("}")
    comma = "" if own.startswith("}".encode(codec)) else ","
    return _bytes(marks + comma, encoding) + own + "\n".encode(codec)


def _line(members: dict[str, object], encoding: Encoding) -> bytes:
    return _bytes(_encoder.encode(members).decode() + "\n", encoding)


def _members(text: str) -> dict[str, msgspec.Raw] | None:
    """Return the members of a JSON object; None if it is not one."""
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
