"""The Chinese texts: what was expected is said in Chinese too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import usertable
from usertable.domain.errors import Problem, ProblemKind
from usertable.domain.values import EXPECTED_FORMS
from usertable.wire import messages
from usertable.wire.bodies import decode_object

SOURCE = Path(usertable.__file__).parent
ANSWERED = ("domain/*.py", "http/*.py", "console/**/*.py", "wire/native/*.py", "wire/batch.py")
"""What is answered over HTTP. The command line speaks English."""
ENGLISH = re.compile(r"\b(?!yyyy|true|false|null)[a-z]{2,} [a-z]{2,}\b|[a-z]{3,}, [a-z]{3,} [a-z]{3,}")


def phrases() -> Iterator[str]:
    """Every form that the source says was expected, with a stand-in for each fact."""
    yield from EXPECTED_FORMS.values()
    for pattern in ANSWERED:
        for path in SOURCE.glob(pattern):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(call, ast.Call):
                    continue
                said = [keyword.value for keyword in call.keywords if keyword.arg == "expected"]
                if ast.unparse(call.func).endswith("parameter_problem"):
                    said += call.args[1:]
                for node in said:
                    yield from phrases_of(node)


def phrases_of(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from phrases_of(node.body)
        yield from phrases_of(node.orelse)


def chinese(expected: str) -> str:
    return messages.text(Problem(ProblemKind.PARAMETER, None, {"name": "x", "expected": expected}), "zh")


def test_the_source_is_searched() -> None:
    assert {"1 to 7", "one value", "7 is for 7, not for 7"} <= set(phrases())


@pytest.mark.parametrize("expected", sorted(set(phrases())))
def test_what_was_expected_is_said_in_chinese(expected: str) -> None:
    assert not ENGLISH.search(chinese(expected))


def test_choices_are_said_in_chinese() -> None:
    assert chinese("one of a number, unlimited") == "参数[x]无效，应为：数字或 unlimited"
    assert chinese("one of visible, hidden") == "参数[x]无效，应为：visible, hidden 之一"


class Sent(msgspec.Struct):
    whole: int | None = None
    text: str = ""


@pytest.mark.parametrize("body", [b'{"whole":"a"}', b'{"text":1}', b"[]"])
def test_what_the_json_decoder_expected_is_said_in_chinese(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(body, type=Sent)
    said = chinese(str(refused.value).partition(" - at `")[0].removeprefix("Expected "))
    assert "实际为" in said
    assert " got " not in said


@pytest.mark.parametrize(
    "body",
    [b'{"a":1', b'{"a":1}x', b'{"a":tru}', b"{a:1}", b'{"a":1,}', b'{"a":"\\q"}', b'{"a":"\xff"}', b'{"a":' + b"[" * 5000],
)
def test_what_is_wrong_with_a_body_is_said_in_chinese(body: bytes) -> None:
    problem = decode_object(body)
    assert isinstance(problem, Problem)
    assert not re.search("[a-z]{4}", messages.text(problem, "zh"))
