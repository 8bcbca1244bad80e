"""YAML as a tree of nodes. A scalar is its text in the file, with its line."""

from __future__ import annotations

import re

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

from usertable.domain.errors import excerpt, phrase
from usertable.domain.phrases import Phrase, PhraseKind

_VERSION = re.compile(rb"%YAML[ \t]+(?!1\.[12][ \t\r]*$)([^\r\n]*)", re.MULTILINE)


class BadYAML(ValueError):
    """A file is not YAML in UTF-8."""

    def __init__(self, line: int, expected: Phrase) -> None:
        super().__init__(f"line {line}: {expected.kind}")
        self.line = line
        self.expected = expected


def yaml_tree(content: bytes) -> Node | None:
    """Return the only document of a file, YAML 1.2 or 1.1; None if it is empty.

    Raises:
        BadYAML: it is not one.
    """
    try:
        # Safe: only YAML's plain types. Pure: the C library reads YAML 1.1, in which `no` is false.
        node: Node | None = YAML(typ="safe", pure=True).compose(content.decode("utf-8-sig"))
        return node
    except UnicodeDecodeError as error:
        raise BadYAML(_line(content, error.start), Phrase(PhraseKind.YAML_IN_UTF8)) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise BadYAML(line, phrase(PhraseKind.NOT_YAML, detail=error.problem or error.context or "")) from error
    except YAMLError as error:
        raise BadYAML(1, phrase(PhraseKind.NOT_YAML, detail=str(error).splitlines()[0])) from error
    except RecursionError as error:
        raise BadYAML(1, Phrase(PhraseKind.TOO_DEEP)) from error
    except (AssertionError, KeyError) as error:
        # The library has no error of its own for unknown versions.
        found = _VERSION.search(content)
        if found is None:
            raise
        version = excerpt(found[1].decode("utf-8", "replace").strip())
        raise BadYAML(_line(content, found.start()), phrase(PhraseKind.YAML_VERSION, version=version)) from error


def _line(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1
