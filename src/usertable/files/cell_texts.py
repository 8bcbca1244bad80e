"""Texts in a file in forms that the API does not accept: other date formats, decimal commas, words for true."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime

from usertable.domain.errors import Problem, ProblemKind, excerpt, phrase
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.domain.schema import Attribute
from usertable.domain.values import DataType
from usertable.files.options import ReadOptions

# Digits, or groups of three digits separated by points or blanks; then a comma and more digits.
_DECIMAL_COMMA = re.compile(r"(-?)([0-9]+|[0-9]{1,3}(?:([. \u00a0\u202f])[0-9]{3})(?:\3[0-9]{3})*)(?:,([0-9]+))?")
BOOL_TEXTS = {"0": 0, "1": 1, "false": 0, "true": 1, "FALSE": 0, "TRUE": 1, "False": 0, "True": 1}
"""The texts that a CSV accepts as BOOL without options."""
_SAMPLE = datetime(2004, 12, 31, 23, 59, 58)


def text_reader(attribute: Attribute, options: ReadOptions) -> Callable[[str], object] | None:
    """Return a function that converts a text to an API value, or a problem; None if the API accepts the text as it is."""
    if attribute.type is DataType.DATETIME and options.date_formats:
        return lambda text: _moment(attribute.name, text, options.date_formats)
    if attribute.type is DataType.NUMBER and options.decimal_comma:
        return lambda text: _number(attribute.name, text)
    if attribute.type is DataType.BOOL and (options.true_texts or options.false_texts):
        words = BOOL_TEXTS | dict.fromkeys(options.true_texts, 1) | dict.fromkeys(options.false_texts, 0)
        return lambda text: words[text] if text in words else _bool_problem(attribute.name, text, words)
    return None


def is_date_format(text: str) -> bool:
    """Return whether a format for :meth:`datetime.datetime.strptime` contains a complete date."""
    try:
        found = datetime.strptime(_SAMPLE.strftime(text), text)
    except ValueError:
        return False
    # The name of a zone does not determine an offset.
    return found.date() == _SAMPLE.date() and "%Z" not in text.replace("%%", "")


def _moment(name: str, text: str, formats: tuple[str, ...]) -> object:
    """Return a time in the first matching format as `2024-05-01 12:00:00`, with fraction and offset if it has them."""
    for form in formats:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).isoformat(" ")
    return value_problem(name, DataType.DATETIME, text, phrase(PhraseKind.DATE_FORMAT, formats=formats))


def _number(name: str, text: str) -> object:
    """Return a number with a decimal comma, such as `1.234,5`, with a decimal point."""
    found = _DECIMAL_COMMA.fullmatch(text)
    if found is None:
        return value_problem(name, DataType.NUMBER, text, phrase(PhraseKind.DECIMAL_COMMA))
    sign, whole, separator, fraction = found.groups()
    whole = whole.replace(separator, "") if separator else whole
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _bool_problem(name: str, text: str, words: Iterable[str]) -> Problem:
    return value_problem(name, DataType.BOOL, text, phrase(PhraseKind.ONE_OF, choices=tuple(words)))


def value_problem(name: str, data_type: DataType, text: str, expected: Phrase) -> Problem:
    """A text that is not of the type, and what the type expects in a file."""
    params = {"type": data_type.value, "value": excerpt(text), "expected": expected}
    return Problem(ProblemKind.VALUE_TYPE, name, params)
