"""The laws of the catalogue: every problem and phrase has complete templates in both languages."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

import usertable
from usertable.console.texts import TEXTS
from usertable.domain.errors import MAX_LISTED, Problem, ProblemKind, Refused, phrase, refusal
from usertable.domain.phrases import Param, Phrase, PhraseKind
from usertable.wire.bodies import decode_object
from usertable.wire.catalogue import en, zh
from usertable.wire.messages import param_text, text
from usertable.wire.native import members
from usertable.wire.native.decoding import convert

SOURCE = Path(usertable.__file__).parent
ENGLISH = re.compile(r"\b[a-z]{2,} [a-z]{2,}\b|[a-z]{3,}, [a-z]{3,} [a-z]{3,}")
CODE = re.compile(r"`[^`]*`|--[a-z-]+(?: [a-z0-9-]+)?|pip install \S+|\{\w+(?:![a-z])?\}")
"""Parts that a Chinese text quotes unchanged: commands, options, parameters."""
CHINESE = [*zh.PROBLEMS.values(), *zh.PHRASES.values()]


def parameters(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def test_every_problem_and_every_phrase_has_a_text_in_both_languages() -> None:
    for catalogue in (en, zh):
        assert catalogue.PROBLEMS.keys() == set(ProblemKind)
        assert catalogue.PHRASES.keys() == set(PhraseKind)


def test_both_texts_have_the_same_parameters() -> None:
    for english, chinese in ((en.PROBLEMS, zh.PROBLEMS), (en.PHRASES, zh.PHRASES)):
        named = [{str(kind): parameters(template) for kind, template in texts.items()} for texts in (english, chinese)]
        assert named[0] == named[1]


# Parameters before a plural that are never 1, because they are limits, or exceed one; `type` is no number.
ALWAYS_PLURAL = {
    "bytes",
    "digits",
    "elements",
    "groups",
    "hours",
    "kept",
    "limit",
    "lines",
    "maximum",
    "members",
    "minimum",
    "type",
}
COUNTED = re.compile(r"\{(\w+)\} (?:more |other |different |recorded |\w+ed )?[a-z]+s\b")
VERBS = re.compile(
    r"\{(\w+)\} (?:is|was|has|does|takes|uses|runs|needs|answers|lacks|expects|rejects|begins|contains|plus|less|gives)\b"
)


def counted(template: str) -> set[str]:
    """Return the parameters that stand before a plural."""
    return set(COUNTED.findall(VERBS.sub("", template)))


def test_an_english_text_with_a_number_has_a_singular() -> None:
    singulars = {str(kind): singular for kind, singular in en.SINGULARS.items()}
    without = {}
    for kind, template in itertools.chain(en.PROBLEMS.items(), en.PHRASES.items()):
        name, singular = singulars.get(kind, ("", template))
        assert parameters(singular) in (parameters(template), parameters(template) - {name})
        if missing := counted(template) - ALWAYS_PLURAL - {name}:
            without[str(kind)] = missing
    assert without == {}


def test_every_text_of_the_console_with_a_count_has_a_singular() -> None:
    # The last two are only shown for more than one.
    without = [key for key, (_, english) in TEXTS.items() if "count" in counted(english) and f"{key}.one" not in TEXTS]
    assert without == ["value.all_of", "statistics.distinct"]
    others = {name for _, english in TEXTS.values() for name in counted(english)} - {"count", *ALWAYS_PLURAL}
    assert others == set()


@pytest.mark.parametrize(
    ("count", "english"), [(0, "0 more problems are"), (1, "1 more problem is"), (2, "2 more problems are")]
)
def test_one_is_said_in_the_singular(count: int, english: str) -> None:
    problem = Problem(ProblemKind.MORE_PROBLEMS, None, {"count": str(count)})
    assert text(problem, "en") == f"{english} not listed"
    assert text(problem, "zh") == f"另有 {count} 个问题未列出"


def test_a_chinese_text_has_no_english_in_it() -> None:
    assert [template for template in CHINESE if ENGLISH.search(CODE.sub("", template))] == []


def test_chinese_has_full_width_punctuation_and_a_space_beside_latin() -> None:
    han, latin = "[\u4e00-\u9fff]", "[A-Za-z0-9{}$]"
    wrong = re.compile(
        f"{han}{latin}|{latin}{han}|{han}[,.;:!?()]|[,.;:!?()]{han}|[，。；：？！（）、] | [，。；：？！（）、]"
    )
    assert [template for template in CHINESE if wrong.search(template)] == []


# problems and phrases in the source


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


def kind_of(call: ast.Call) -> ProblemKind | PhraseKind | None:
    """Return the kind that a call has as its first argument; None if it has none."""
    found = call.args and ast.unparse(call.args[0])
    if found and re.fullmatch(r"ProblemKind\.[A-Z0-9_]+", found):
        return ProblemKind[found.partition(".")[2]]
    if found and re.fullmatch(r"PhraseKind\.[A-Z0-9_]+", found):
        return PhraseKind[found.partition(".")[2]]
    return None


def told() -> Iterator[tuple[str, ProblemKind | PhraseKind, dict[str, ast.expr]]]:
    """Yield the place, kind and parameters of each problem and phrase in the source."""
    for place, call in calls():
        assert isinstance(call.func, ast.Name)
        kind = kind_of(call)
        if kind is None or call.func.id not in ("refusal", "phrase", "Problem", "Phrase"):
            continue
        params = {keyword.arg or "": keyword.value for keyword in call.keywords}
        if call.func.id in ("Problem", "Phrase"):
            given = call.args[2 if call.func.id == "Problem" else 1 :]
            if given and not isinstance(given[0], ast.Dict):
                continue
            params = {}
            for node in given:
                assert isinstance(node, ast.Dict)
                params |= {ast.literal_eval(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
        yield place, kind, params


@cache
def all_told() -> list[tuple[str, ProblemKind | PhraseKind, dict[str, ast.expr]]]:
    return list(told())


def test_what_is_told_has_the_parameters_of_its_text() -> None:
    for place, kind, params in all_told():
        template = en.PROBLEMS[kind] if isinstance(kind, ProblemKind) else en.PHRASES[kind]
        assert set(params) == parameters(template) - {"attribute"}, (place, kind)


def test_a_parameter_is_no_prose() -> None:
    for place, _, params in all_told():
        for node in (node for value in params.values() for node in ast.walk(value)):
            said = node.value if isinstance(node, ast.Constant) else ""
            assert not (isinstance(said, str) and ENGLISH.search(said)), (place, said)


def test_every_phrase_is_said_somewhere() -> None:
    named = {
        name
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "catalogue"
        for name in re.findall(r"PhraseKind\.([A-Z0-9_]+)", path.read_text(encoding="utf-8"))
    }
    assert named == {kind.name for kind in PhraseKind}
    assert len(all_told()) > 150


# how it is filled in


@pytest.mark.parametrize(
    ("param", "english", "chinese"),
    [
        ("a name", "a name", "a name"),
        (Phrase(PhraseKind.ZERO_OR_ONE), "0 or 1", "0 或 1"),
        (phrase(PhraseKind.RANGE, minimum=1, maximum=9), "1 to 9", "1 到 9"),
        (phrase(PhraseKind.ONE_OF, choices=("visible", "hidden")), "one of visible, hidden", "以下之一：visible、hidden"),
        ((Phrase(PhraseKind.INTEGER), Phrase(PhraseKind.NULL)), "an integer, null", "整数、null"),
        (
            phrase(PhraseKind.OTHER_TYPE, expected=Phrase(PhraseKind.INTEGER), found=Phrase(PhraseKind.STRING)),
            "an integer, got a string",
            "整数；实际为：字符串",
        ),
    ],
)
def test_a_phrase_is_filled_with_phrases(param: Param, english: str, chinese: str) -> None:
    assert param_text(param, "en") == english
    assert param_text(param, "zh") == chinese


def test_braces_in_a_value_are_no_parameters() -> None:
    (problem,) = refusal(
        ProblemKind.CONDITION, value="{0} {x}", expected=phrase(PhraseKind.ONE_OF, choices=("{y}",))
    ).problems
    assert text(problem, "en") == "condition [{0} {x}] is invalid: one of {y}"


def test_a_long_list_is_cut() -> None:
    names = tuple(f"n{number}" for number in range(MAX_LISTED + 1))
    told = param_text(phrase(PhraseKind.ONE_OF, choices=names), "en")
    assert told == "one of " + ", ".join([*names[:MAX_LISTED], "…"])


# messages of other libraries


class Sent(msgspec.Struct, forbid_unknown_fields=True):
    whole: Annotated[int, Meta(ge=1, le=9)] = 1
    name: Annotated[str, Meta(min_length=2, max_length=3, pattern="^a")] = "ab"
    names: Annotated[list[str], Meta(min_length=1, max_length=2)] = msgspec.field(default_factory=lambda: ["a"])
    qps: int | Literal["unlimited"] | None = None
    flag: members.Flag = "0"
    is_new: bool = False
    by_name: dict[str, int] = {}
    day: date | None = None


@pytest.mark.parametrize(
    ("sent", "english", "chinese"),
    [
        ({"whole": "1"}, "[whole] is invalid; expected an integer, got a string", "[whole]无效，应为：整数；实际为：字符串"),
        ({"whole": None}, "[whole] is invalid; expected an integer, got null", "[whole]无效，应为：整数；实际为：null"),
        ({"whole": 0}, "[whole] is invalid; expected an integer, at least 1", "[whole]无效，应为：整数，不小于 1"),
        ({"whole": 10}, "[whole] is invalid; expected an integer, at most 9", "[whole]无效，应为：整数，不大于 9"),
        (
            {"name": "a"},
            "[name] is invalid; expected a string with a length of at least 2",
            "[name]无效，应为：字符串，长度不小于 2",
        ),
        (
            {"name": "abcd"},
            "[name] is invalid; expected a string with a length of at most 3",
            "[name]无效，应为：字符串，长度不超过 3",
        ),
        ({"name": "bc"}, "[name] is invalid; expected a string that matches ^a", "[name]无效，应为：字符串，匹配 ^a"),
        ({"name": {}}, "[name] is invalid; expected a string, got an object", "[name]无效，应为：字符串；实际为：对象"),
        (
            {"names": []},
            "[names] is invalid; expected an array with a length of at least 1",
            "[names]无效，应为：数组，长度不小于 1",
        ),
        (
            {"names": [1]},
            "[names[0]] is invalid; expected a string, got an integer",
            "[names[0]]无效，应为：字符串；实际为：整数",
        ),
        ({"qps": "all"}, "[qps] is invalid; expected a number or unlimited", "[qps]无效，应为：数字或 unlimited"),
        (
            {"qps": []},
            "[qps] is invalid; expected one of an integer, a string, null, got an array",
            "[qps]无效，应为：以下之一：整数、字符串、null；实际为：数组",
        ),
        (
            {"flag": "2"},
            "[flag] is invalid; expected one of 0, 1, false, true",
            "[flag]无效，应为：以下之一：0、1、false、true",
        ),
        (
            {"is_new": 1},
            "[is_new] is invalid; expected a boolean, got an integer",
            "[is_new]无效，应为：布尔值；实际为：整数",
        ),
        (
            {"by_name": []},
            "[by_name] is invalid; expected an object, got an array",
            "[by_name]无效，应为：对象；实际为：数组",
        ),
        (
            {"day": "x"},
            "[day] is invalid; expected another form (Invalid RFC3339 encoded date)",
            "[day]无效，应为：其他形式（Invalid RFC3339 encoded date）",
        ),
    ],
)
def test_what_msgspec_says_of_a_value_is_told_in_both_languages(sent: dict[str, Any], english: str, chinese: str) -> None:
    with pytest.raises(Refused) as refused:
        convert(sent, Sent, strict=True, name="body")
    (problem,) = refused.value.problems
    assert text(problem, "en") == f"parameter {english}"
    assert text(problem, "zh") == f"参数{chinese}"


class Empty(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Needed(msgspec.Struct):
    name: str
    inner: Empty | None = None


@pytest.mark.parametrize(
    ("sent", "form", "english", "chinese"),
    [
        ({}, Needed, "[name] is invalid; expected a value, but it is missing", "[name]无效，应为：必填，不能缺失"),
        (
            {"x": 1},
            Empty,
            "[x] is invalid; expected nothing, because the name is unknown",
            "[x]无效，应为：不传，不支持此名称",
        ),
        (
            {"name": "a", "inner": {"x": 1}},
            Needed,
            "[inner.x] is invalid; expected nothing, because the name is unknown",
            "[inner.x]无效，应为：不传，不支持此名称",
        ),
    ],
)
def test_what_msgspec_says_of_members_is_told_in_both_languages(
    sent: dict[str, Any], form: type, english: str, chinese: str
) -> None:
    with pytest.raises(Refused) as refused:
        convert(sent, form, strict=True, name="body")
    (problem,) = refused.value.problems
    assert (text(problem, "en"), text(problem, "zh")) == (f"parameter {english}", f"参数{chinese}")


NOT_JSON = (
    *(b"", b'{"a":1', b'{"a":1}x', b'{"a":tru}', b"{a:1}", b'{"a":1,}', b"[1,]", b"[1 2]", b'{"a" 1}', b'{"a":1 "b":2}'),
    *(b'{"a":01}', b'{"a":"\\q"}', b'{"a":"\\u12"}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b'{"a":NaN}', b'{"a":"\x01"}'),
    *(b'{"a":' + b"[" * 5000, b"\x1f\x8b", "{}".encode("utf-16"), b'{"a":' + b"9" * 5000 + b"}"),
)


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_wrong_with_a_body_is_said_in_chinese(body: bytes) -> None:
    problem = decode_object(body)
    assert isinstance(problem, Problem)
    said = text(problem, "zh")
    assert said.startswith("请求体不是合法的 JSON：")
    assert not ENGLISH.search(said)


def test_what_nobody_has_classified_is_told_as_a_detail(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(body: bytes) -> object:
        raise msgspec.DecodeError("JSON is malformed: the moon is full (byte 3)")

    monkeypatch.setattr("usertable.wire.bodies._decode", refuse)
    problem = decode_object(b"{}")
    assert isinstance(problem, Problem)
    detail = "JSON is malformed: the moon is full (byte 3)"
    assert text(problem, "en") == f"the body is not valid JSON: invalid data ({detail})"
    assert text(problem, "zh") == f"请求体不是合法的 JSON：数据无效（{detail}）"


def test_a_problem_survives_being_kept() -> None:
    (problem,) = refusal(
        ProblemKind.PARAMETER, name="x", expected=phrase(PhraseKind.OTHER_TYPE, expected=("a", "b"), found="c")
    ).problems
    kept = msgspec.json.decode(msgspec.json.encode(problem), type=Problem)
    assert kept == problem
    assert text(kept, "zh") == text(problem, "zh")
