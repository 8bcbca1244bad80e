"""YAML as a tree of nodes, in which a scalar is the text that stands in the file, with its line."""

from __future__ import annotations

import re

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

from usertable.domain.errors import excerpt

_VERSION = re.compile(rb"%YAML[ \t]+(?!1\.[12][ \t\r]*$)([^\r\n]*)", re.MULTILINE)


class BadYAML(ValueError):
    """A file is not YAML in UTF-8."""

    def __init__(self, line: int, expected: str) -> None:
        super().__init__(f"line {line}: {expected}")
        self.line = line
        self.expected = expected


def yaml_tree(content: bytes) -> Node | None:
    """The one document of a file, YAML 1.2 or 1.1; None if it is empty.

    Raises:
        BadYAML: it is not one.
    """
    try:
        # Safe: only the plain types of YAML. Pure: the C library reads YAML 1.1, where `no` is false.
        node: Node | None = YAML(typ="safe", pure=True).compose(content.decode("utf-8-sig"))
        return node
    except UnicodeDecodeError as error:
        raise BadYAML(_line(content, error.start), "a YAML file in UTF-8") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise BadYAML(line, f"not valid YAML: {excerpt(error.problem or error.context or '', 120)}") from error
    except YAMLError as error:
        raise BadYAML(1, f"not valid YAML: {excerpt(str(error).splitlines()[0], 120)}") from error
    except RecursionError as error:
        raise BadYAML(1, "fewer levels of nesting") from error
    except (AssertionError, KeyError) as error:
        # Of versions that it does not know, the library does not tell by an error of its own.
        found = _VERSION.search(content)
        if found is None:
            raise
        version = excerpt(found[1].decode("utf-8", "replace").strip())
        raise BadYAML(_line(content, found.start()), f"it is YAML {version}, and 1.2 is read; leave %YAML out") from error


def _line(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1
