"""Arrivals: counted, sampled, deleted after a while, and removed with the user."""

from __future__ import annotations

import json
from dataclasses import replace

from support.actors import TESTER
from support.store_harness import StoreHarness
from usertable.domain.arrival import Arrival, Arrivals, Rate, SampledAttribute
from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.phrases import Param, Phrase, PhraseKind
from usertable.domain.profile import Outcome
from usertable.store.encoding import decode_arrival, encode_arrival
from usertable.store.protocol import KEPT_SAMPLES

MINUTE = 60_000
START = 1_700_000_040_000
"""The beginning of a minute."""
EXPECTED = Phrase(PhraseKind.ONE_OF, {"choices": (Phrase(PhraseKind.NUMBER_FORM), "unlimited")})


def sample(at: int, cuid: int | None, *, refused: bool = False) -> Arrival:
    params: dict[str, Param] = {"value": "<script>", "expected": EXPECTED}
    problems = (Problem(ProblemKind.VALUE_TYPE, "age", params),) if refused else ()
    entry = SampledAttribute("age", "46.2", None if refused else Outcome.APPLIED)
    return Arrival(at, "attribute", "request-1", cuid, entries=(entry,), left_out=3, problems=problems)


def came(number: int, at: int, *samples: Arrival, accepted: int = 0, refused: int = 0) -> Arrivals:
    refusals: dict[tuple[ProblemKind, str | None], int] = {(ProblemKind.VALUE_TYPE, "age"): refused} if refused else {}
    return Arrivals(number, at, accepted, refused, {"age", "city"} if accepted else set(), refusals, list(samples))


def test_counts_add_up_over_seconds_and_servers(harness: StoreHarness) -> None:
    number = harness.project().number
    other = harness.project("two").number
    harness.store.keep_arrivals([came(number, START, accepted=5, refused=1), came(other, START, accepted=100)])
    harness.store.keep_arrivals([came(number, START, sample(START, None), accepted=2)])
    harness.store.keep_arrivals([came(number, START + 9000, accepted=1), came(number, START + 10_000, refused=4)])
    assert harness.store.rates(number, START, 10_000) == [Rate(START, 8, 1, 1), Rate(START + 10_000, 0, 4, 0)]
    assert harness.store.rates(number, START + 5000, 1000) == [
        Rate(START + 9000, 1, 0, 0),
        Rate(START + 10_000, 0, 4, 0),
    ]
    assert harness.store.last_writes(number) == {"age": START + 9000, "city": START + 9000}
    assert harness.store.refusals(number, START) == [(ProblemKind.VALUE_TYPE, "age", 5, START + 10_000)]
    assert harness.store.refusals(other, START) == []


def test_a_refusal_may_be_about_no_attribute(harness: StoreHarness) -> None:
    number = harness.project().number
    batch = came(number, START, refused=1)
    batch.refusals = {(ProblemKind.CREDENTIALS, None): 2, (ProblemKind.ATTRIBUTE_UNKNOWN, "x"): 1}
    harness.store.keep_arrivals([batch])
    assert sorted(harness.store.refusals(number, START), key=str) == [
        (ProblemKind.ATTRIBUTE_UNKNOWN, "x", 1, START),
        (ProblemKind.CREDENTIALS, None, 2, START),
    ]


def test_samples_come_back_as_they_were_newest_first(harness: StoreHarness) -> None:
    project = harness.project()
    cuid = harness.user(project)
    first, second = sample(START, cuid), sample(START + 1, None, refused=True)
    harness.store.keep_arrivals([came(project.number, START, first, second)])
    kept = harness.store.arrivals(project.number, 0, 10)
    assert [arrival for _, arrival in kept] == [second, first]
    numbers = [number for number, _ in kept]
    assert numbers == sorted(numbers, reverse=True)
    assert harness.store.arrivals(project.number, numbers[0], 10) == []
    assert harness.store.arrivals(project.number, numbers[1], 10) == kept[:1]
    assert harness.store.arrivals(project.number, 0, 10, refused=True) == kept[:1]
    assert harness.store.arrivals(project.number, 0, 10, refused=False) == kept[1:]
    assert harness.store.arrivals(project.number, 0, 1) == kept[:1]
    assert harness.store.arrivals(harness.project("two").number, 0, 10) == []


def test_servers_before_and_after_an_upgrade_show_each_others_samples() -> None:
    """An earlier version reads only texts, in `facts`."""
    document = json.loads(encode_arrival(sample(START, 1, refused=True)))
    (problem,) = document["problems"]
    assert problem["facts"] == {"value": "<script>", "expected": "…"}
    del problem["phrases"]
    problem["facts"]["expected"] = "a number"
    (read,) = decode_arrival(json.dumps(document)).problems
    assert read.params == {"value": "<script>", "expected": "a number"}


def test_an_erased_users_samples_go_and_none_comes_after(harness: StoreHarness) -> None:
    project = harness.project()
    cuid, other = harness.service.register(project, "phone", ["a", "b"], actor=TESTER)
    harness.store.keep_arrivals([came(project.number, START, sample(START, cuid), sample(START, other))])
    harness.service.erase_user(project, cuid, actor=TESTER)
    assert [a.cuid for _, a in harness.store.arrivals(project.number, 0, 10)] == [other]
    harness.store.keep_arrivals([came(project.number, START, sample(START, cuid), accepted=1)])
    assert [a.cuid for _, a in harness.store.arrivals(project.number, 0, 10)] == [other]


def test_what_is_old_or_too_much_is_forgotten(harness: StoreHarness) -> None:
    number = harness.project().number
    many = [replace(sample(START + MINUTE, None), request=f"r{n}") for n in range(KEPT_SAMPLES + 5)]
    old = came(number, START, sample(START, None, refused=True), accepted=1, refused=1)
    harness.store.keep_arrivals(
        [old, came(number, START + MINUTE, *many, sample(START + MINUTE, 1, refused=True), refused=1)]
    )
    harness.store.expire_arrivals(START + MINUTE)
    kept = [a.request for _, a in harness.store.arrivals(number, 0, 10_000, refused=False)]
    assert kept == [a.request for a in many[:4:-1]]
    assert [a.at for _, a in harness.store.arrivals(number, 0, 10, refused=True)] == [START + MINUTE]
    assert [rate.at for rate in harness.store.rates(number, 0, 1)] == [START + MINUTE]
    assert harness.store.refusals(number, 0) == [(ProblemKind.VALUE_TYPE, "age", 1, START + MINUTE)]
    assert harness.store.last_writes(number)["age"] == START
