"""Rows of a file as records of a batch: the server decodes the values of the rows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.store_harness import StoreHarness
from usertable.domain.patch import Patch
from usertable.domain.schema import Identifier, Project, Schema
from usertable.domain.values import LIST_ELEMENT_BYTES, number
from usertable.files.import_records import RecordEncoder
from usertable.store.encoding import encode_attributes
from usertable.store.memory import MemoryStore
from usertable.store.records import ImportRows
from usertable.wire.batch import decode_batch
from usertable.wire.import_values import EARLIEST, LATEST, read_row

IDENTIFIERS = (Identifier("phone"), Identifier("device", unique=False))


def project() -> Project:
    made = StoreHarness(MemoryStore()).project()
    # When the clocks change, one hour occurs twice, and another never.
    return replace(made, timezone="Europe/Berlin", schema=Schema(made.schema.attributes, IDENTIFIERS))


PROJECT = project()
MEMBERS = [
    f'{before}"user_{name}_overwrite":{value}' for before in ",{" for name in ("bool", "datetime") for value in ("true", 5)
]
TEXTS = st.lists(
    st.sampled_from([*MEMBERS, "\\", '"', "\n", "é", "x"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
)
TEXT = TEXTS.map("".join).filter(bool)
AUTUMN = 1_729_987_200_000
"""Midnight before an hour that occurs twice."""
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "user_number_overwrite": st.decimals(allow_nan=False, allow_infinity=False, places=3) | st.just(Decimal("1E-30")),
    "user_string_overwrite": TEXT,
    "user_bool_overwrite": st.booleans(),
    "user_bool_once": st.booleans(),
    "user_datetime_overwrite": st.integers(EARLIEST, LATEST) | st.integers(AUTUMN, AUTUMN + 4 * 3_600_000),
    "user_datetime_once": st.integers(0, 10**9).map(lambda seconds: seconds * 1000),
    "user_list_overwrite": st.lists(
        TEXT.filter(lambda text: len(text.encode()) <= LIST_ELEMENT_BYTES), unique=True, min_size=1
    ),
}
ROWS = st.fixed_dictionaries({}, optional=VALUES)
PAIRS = st.lists(st.tuples(st.sampled_from(["phone", "device"]), TEXT), unique_by=lambda pair: pair[0] == "phone" or pair)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(st.none() | st.integers(1, 2**63 - 1), PAIRS, ROWS), min_size=1, max_size=4))
def test_a_server_reads_what_the_rows_have(rows: list[tuple[int | None, list[tuple[str, str]], dict[str, Any]]]) -> None:
    kept = [{name: number(v) if "number" in name else v for name, v in values.items()} for _, _, values in rows]
    texts = [encode_attributes({n: v for n, v in values.items() if v is not None}) for values in kept]
    table = ImportRows.of((cuid, tuple(pairs), text) for (cuid, pairs, _), text in zip(rows, texts, strict=True))
    names = {name for values in kept for name in values}
    records = RecordEncoder(PROJECT, "import-5f3a").records(range(8, 8 + len(rows)), table, names)
    read, _ = decode_batch(b'{"records":[' + b",".join(records) + b'],"on_unknown":"import"}', 2**20)
    for place, (record, (cuid, pairs, _), values) in enumerate(zip(read, rows, kept, strict=True)):
        assert not record.problems
        assert (record.cuid, record.key) == (cuid, f"import-5f3a-{8 + place}")
        phones = [value for name, value in pairs if name == "phone"]
        devices = [value for name, value in pairs if name == "device"]
        assert record.identifiers == ({"phone": phones[0]} if phones else {}) | ({"device": devices} if devices else {})
        patch = read_row(PROJECT.schema, record.data or {}, PROJECT.zone)
        assert isinstance(patch, Patch)
        assert {attribute.name: value for attribute, value in patch.entries} == values


def test_a_row_without_anything_but_its_user_is_one_too() -> None:
    rows = ImportRows.of([(None, (("phone", "a"),), "{}")])
    assert RecordEncoder(PROJECT, None).records([1], rows, set()) == [b'{"identifiers":{"phone":"a"},"data":{}}']
