"""What each data type accepts, and the one form in which it is stored (SPEC §2)."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.values import (
    DEFAULT_LIMITS,
    PARSERS,
    DataType,
    Limits,
    Value,
    add,
    datetime_text,
    is_empty,
    number,
    number_text,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
D = Decimal
NOT_NUMBERS: list[object] = [True, [1], {}, "1e5", "+1", " 1", "１", "0x10", "NaN", "1.", ".5"]


def parse(data_type: DataType, raw: object, zone: ZoneInfo = SHANGHAI, limits: Limits = DEFAULT_LIMITS) -> Value | Problem:
    return PARSERS[data_type]("a", raw, zone, limits)


@pytest.mark.parametrize(
    ("data_type", "sent", "kept"),
    [
        (DataType.NUMBER, 12, 12),
        (DataType.NUMBER, D("46.2"), D("46.2")),
        (DataType.NUMBER, D("12.0"), 12),
        (DataType.NUMBER, D("46.20"), D("46.2")),
        (DataType.NUMBER, D("1E+3"), 1000),
        (DataType.NUMBER, D("-0.0"), 0),
        (DataType.NUMBER, "46.2", D("46.2")),
        (DataType.NUMBER, "-007.10", D("-7.1")),
        (DataType.NUMBER, 10**30 + 1, 10**30 + 1),
        (DataType.NUMBER, 10**38 - 1, 10**38 - 1),
        (DataType.NUMBER, 10**38, 10**38),
        (DataType.NUMBER, D("1e-38"), D("1e-38")),
        (DataType.STRING, "refef", "refef"),
        (DataType.STRING, " ", " "),
        (DataType.STRING, 12, "12"),
        (DataType.STRING, D("46.20"), "46.20"),
        (DataType.STRING, D("1E+3"), "1000"),
        (DataType.STRING, True, "true"),
        (DataType.STRING, False, "false"),
        (DataType.STRING, "é" * 4096, "é" * 4096),
        (DataType.BOOL, 0, False),
        (DataType.BOOL, 1, True),
        (DataType.DATETIME, "2023-12-12 00:56:23", 1702313783000),
        (DataType.DATETIME, "1970-01-01 08:00:00", 0),
        (DataType.DATETIME, "1969-12-31 23:59:59", -28801000),
        (DataType.DATETIME, "9999-12-31 23:59:59", 253402271999000),
        (DataType.DATETIME, "0001-01-01 08:05:43", -62135596800000),
        (DataType.LIST, ["A", "B", "A", "C", "B"], ["A", "B", "C"]),
        (DataType.LIST, ["é", "e\u0301", "E", "e", "e "], ["é", "e\u0301", "E", "e", "e "]),
        (DataType.LIST, [""], [""]),
    ],
)
def test_accepted(data_type: DataType, sent: object, kept: Value) -> None:
    found = parse(data_type, sent)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("data_type", "sent", "kind"),
    [
        *((DataType.NUMBER, sent, ProblemKind.VALUE_TYPE) for sent in NOT_NUMBERS),
        (DataType.NUMBER, D("Infinity"), ProblemKind.NUMBER_RANGE),
        (DataType.NUMBER, 10**38 + 1, ProblemKind.NUMBER_RANGE),
        (DataType.NUMBER, 10**39, ProblemKind.NUMBER_RANGE),
        (DataType.NUMBER, D("1e-39"), ProblemKind.NUMBER_RANGE),
        (DataType.NUMBER, D("1e999999"), ProblemKind.NUMBER_RANGE),
        (DataType.NUMBER, "1." + "1" * 38, ProblemKind.NUMBER_RANGE),
        (DataType.NUMBER, 10**4000, ProblemKind.NUMBER_RANGE),
        (DataType.STRING, ["a"], ProblemKind.VALUE_TYPE),
        (DataType.STRING, {"a": 1}, ProblemKind.VALUE_TYPE),
        (DataType.STRING, "a\0b", ProblemKind.STRING_CHARACTER),
        (DataType.STRING, "\ud800", ProblemKind.STRING_CHARACTER),
        (DataType.STRING, "é" * 4096 + "e", ProblemKind.STRING_LENGTH),
        (DataType.STRING, D("1e99"), ProblemKind.NUMBER_RANGE),
        *((DataType.BOOL, sent, ProblemKind.VALUE_TYPE) for sent in (True, False, 2, -1, D("1.0"), "1", "true", [1])),
        *(
            (DataType.DATETIME, sent, ProblemKind.VALUE_TYPE)
            for sent in (
                "2023-02-30 00:00:00",
                "2023-12-12T00:56:23",
                "2023-12-12 00:56",
                "2023-12-12 24:00:00",
                "2023-12-12 00:60:00",
                "2023-12-12 23:59:60",
                "2023-1-12 00:56:230",
                "２０23-12-12 00:56:23",
                "0000-01-01 00:00:00",
                "0001-01-01 00:00:00",
                "2023-W01-1 00:00:00",
                " 2023-12-12 00:56:23",
                1702313783000,
                True,
            )
        ),
        *((DataType.LIST, sent, ProblemKind.VALUE_TYPE) for sent in ("a", ["a", 1], [None], [["a"]], {"a": 1}, 5)),
        (DataType.LIST, ["a\0"], ProblemKind.STRING_CHARACTER),
        (DataType.LIST, ["x" * 513], ProblemKind.LIST_ELEMENT_LENGTH),
        (DataType.LIST, [str(n) for n in range(1001)], ProblemKind.LIST_LENGTH),
    ],
)
def test_refused(data_type: DataType, sent: object, kind: ProblemKind) -> None:
    found = parse(data_type, sent)
    assert isinstance(found, Problem), found
    assert (found.kind, found.attribute) == (kind, "a")


@pytest.mark.parametrize("raw", [None, "", []])
def test_empty(raw: object) -> None:
    assert is_empty(raw)


@pytest.mark.parametrize("raw", [0, False, " ", [""], {}, "0", D("0.0")])
def test_not_empty(raw: object) -> None:
    assert not is_empty(raw)


def test_a_list_of_its_own_limits() -> None:
    assert parse(DataType.LIST, ["ab", "c"], limits=Limits(2, 2)) == ["ab", "c"]
    assert isinstance(parse(DataType.LIST, ["abc"], limits=Limits(2, 2)), Problem)
    assert isinstance(parse(DataType.LIST, ["a", "b", "c"], limits=Limits(2, 2)), Problem)


def test_a_skipped_local_time_is_refused() -> None:
    found = parse(DataType.DATETIME, "2024-03-31 02:30:00", BERLIN)
    assert isinstance(found, Problem)
    assert found.kind is ProblemKind.DATETIME_SKIPPED
    assert parse(DataType.DATETIME, "2024-03-31 03:00:00", BERLIN) == ms(2024, 3, 31, 1)
    assert parse(DataType.DATETIME, "2024-03-31 01:59:59", BERLIN) == ms(2024, 3, 31, 0, 59, 59)
    shanghai = parse(DataType.DATETIME, "1986-05-04 02:30:00", SHANGHAI)
    assert isinstance(shanghai, Problem)


def test_a_repeated_local_time_is_the_earlier() -> None:
    assert parse(DataType.DATETIME, "2024-10-27 02:30:00", BERLIN) == ms(2024, 10, 27, 0, 30)
    assert parse(DataType.DATETIME, "2024-10-27 03:00:00", BERLIN) == ms(2024, 10, 27, 2)


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000  # type: ignore[misc, arg-type]


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 30)),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "Pacific/Apia"]),
)
def test_every_accepted_time_is_shown_as_it_was_sent(moment: datetime, zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    text = moment.replace(microsecond=0).isoformat(" ")
    found = parse(DataType.DATETIME, text, zone)
    if isinstance(found, Problem):
        assert found.kind is ProblemKind.DATETIME_SKIPPED
    else:
        assert isinstance(found, int)
        assert datetime_text(found, zone) == text
        reference = moment.replace(microsecond=0, tzinfo=zone).timestamp()
        assert found == int(reference) * 1000


def test_tenths_are_exact() -> None:
    total: int | Decimal | None = 0
    for _ in range(10):
        assert total is not None
        total = add(total, D("0.1"))
    assert total == 1
    assert type(total) is int


exact = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=9),
)


@given(exact, exact)
def test_sums_are_exact(a: int | Decimal, b: int | Decimal) -> None:
    from fractions import Fraction

    left, right = number(a), number(b)
    assert left is not None
    assert right is not None
    total = add(left, right)
    if total is not None:
        assert Fraction(total) == Fraction(a) + Fraction(b)


@given(exact)
def test_equal_numbers_have_one_form(value: int | Decimal) -> None:
    kept = number(value)
    assert kept is not None
    again = number(D(number_text(kept)))
    assert (again, type(again)) == (kept, type(kept))
    padded = number(D(number_text(kept) + ("" if "." in number_text(kept) else ".") + "000"))
    assert (padded, type(padded)) == (kept, type(kept))
    assert "E" not in number_text(kept)


@given(st.lists(exact, max_size=6), st.randoms())
def test_the_order_of_reports_does_not_matter(values: list[int | Decimal], chance: random.Random) -> None:
    def total(items: list[int | Decimal]) -> int | Decimal | None:
        found: int | Decimal | None = 0
        for item in items:
            assert found is not None
            found = add(found, item)
            if found is None:
                return None
        return found

    shuffled = values[:]
    chance.shuffle(shuffled)
    first, second = total(values), total(shuffled)
    if first is not None and second is not None:
        assert first == second
