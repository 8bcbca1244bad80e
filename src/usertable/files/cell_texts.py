"""How the texts of a file are read beyond what the API takes: moments in other forms, decimal commas, words for true."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime

from usertable.domain.errors import Problem, ProblemKind, excerpt
from usertable.domain.schema import Attribute
from usertable.domain.values import DataType
from usertable.files.options import ReadOptions

# Digits, or groups of three of them with a point or a blank between; then a comma and more digits.
_DECIMAL_COMMA = re.compile(r"(-?)([0-9]+|[0-9]{1,3}(?:([. \u00a0\u202f])[0-9]{3})(?:\3[0-9]{3})*)(?:,([0-9]+))?")
BOOL_TEXTS = {"0": 0, "1": 1, "false": 0, "true": 1, "FALSE": 0, "TRUE": 1, "False": 0, "True": 1}
"""The texts that a CSV's BOOL may be without being named."""
_SAMPLE = datetime(2004, 12, 31, 23, 59, 58)


def text_reader(attribute: Attribute, options: ReadOptions) -> Callable[[str], object] | None:
    """From a text to what the API would be sent, or what is wrong with it; None where the API takes it as it is."""
    if attribute.type is DataType.DATETIME and options.date_formats:
        return lambda text: _moment(attribute.name, text, options.date_formats)
    if attribute.type is DataType.NUMBER and options.decimal_comma:
        return lambda text: _number(attribute.name, text)
    if attribute.type is DataType.BOOL and (options.true_texts or options.false_texts):
        words = BOOL_TEXTS | dict.fromkeys(options.true_texts, 1) | dict.fromkeys(options.false_texts, 0)
        return lambda text: words[text] if text in words else _bool_problem(attribute.name, text, words)
    return None


def is_date_format(text: str) -> bool:
    """Whether a format, as :meth:`datetime.datetime.strptime` has it, tells a whole date."""
    try:
        found = datetime.strptime(_SAMPLE.strftime(text), text)
    except ValueError:
        return False
    # The name of a zone does not tell an offset.
    return found.date() == _SAMPLE.date() and "%Z" not in text.replace("%%", "")


def _moment(name: str, text: str, formats: tuple[str, ...]) -> object:
    """A moment in the first of some formats, as `2024-05-01 12:00:00` with a fraction and an offset if it has them."""
    for form in formats:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).isoformat(" ")
    return _problem(name, DataType.DATETIME, text, f"a date and time as {' or '.join(formats)} has it")


def _number(name: str, text: str) -> object:
    """A number with a decimal comma, such as `1.234,5`, with a point."""
    found = _DECIMAL_COMMA.fullmatch(text)
    if found is None:
        return _problem(name, DataType.NUMBER, text, "a number with a decimal comma, such as 1234,5 or 1.234,5")
    sign, whole, separator, fraction = found.groups()
    whole = whole.replace(separator, "") if separator else whole
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _bool_problem(name: str, text: str, words: Iterable[str]) -> Problem:
    return _problem(name, DataType.BOOL, text, f"one of {', '.join(words)}")


def _problem(name: str, data_type: DataType, text: str, expected: str) -> Problem:
    params = {"type": data_type.value, "value": excerpt(text), "expected": excerpt(expected, 200)}
    return Problem(ProblemKind.VALUE_TYPE, name, params)
