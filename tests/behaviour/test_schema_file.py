"""Schema as code: the YAML file, both ways, and every way in which it can be wrong."""

from __future__ import annotations

import contextlib
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertable.domain.errors import ProblemKind, Refused
from usertable.domain.schema import LEGAL_RULES, PRESET_IDENTIFIERS, Attribute, Identifier, Rule, Schema
from usertable.domain.values import DEFAULT_LIMITS, DataType, Limits
from usertable.wire import schema_file
from usertable.wire.messages import text

WHOLE = """
    attributes:                 # in order of declaration
    - name: level
      type: NUMBER
      rule: overwrite
      display_name: 等级
      description: "How far the user came.\\nFrom 1 to 60."
    - name: tags
      type: LIST
      rule: append
      hidden: true
      max_elements: 50
      max_element_bytes: 64
    identifiers:
    - name: login_id
    - name: phone
      display_name: 手机号
      unique: false
      masked: true
"""


def decode(content: str) -> Schema:
    return schema_file.decode(textwrap.dedent(content).encode())


def problems(content: str | bytes) -> list[str]:
    """Return the texts of a file's problems, each as "place: expected"."""
    raw = content if isinstance(content, bytes) else textwrap.dedent(content).encode()
    with pytest.raises(Refused) as caught:
        schema_file.decode(raw)
    assert {p.kind for p in caught.value.problems} == {ProblemKind.SCHEMA_FILE}
    return [text(p, "en").removeprefix("the schema file is invalid at ") for p in caught.value.problems]


def test_a_whole_file() -> None:
    schema = decode(WHOLE)
    assert list(schema.attributes.values()) == [
        Attribute("level", DataType.NUMBER, Rule.OVERWRITE, "等级", "How far the user came.\nFrom 1 to 60."),
        Attribute("tags", DataType.LIST, Rule.APPEND, hidden=True, limits=Limits(50, 64)),
    ]
    assert schema.identifiers == (
        Identifier("login_id"),
        Identifier("phone", "手机号", unique=False, masked=True),
        *PRESET_IDENTIFIERS,
    )


@pytest.mark.parametrize("content", ["{}", "attributes:\nidentifiers:\n", "attributes: []", "identifiers: []", "\ufeff{}"])
def test_what_is_left_out_is_empty(content: str) -> None:
    assert decode(content) == Schema()


def test_presets_that_are_named_keep_the_place_the_file_gives_them() -> None:
    schema = decode(
        """
        identifiers:
        - name: jg_UnionID
          masked: true
        - name: phone
        """
    )
    registration, union = PRESET_IDENTIFIERS
    assert [i.name for i in schema.identifiers] == [union.name, "phone", registration.name]
    assert schema.identifiers[0] == Identifier("jg_UnionID", union.display_name, unique=True, masked=True)
    assert decode(schema_file.encode(schema)) == schema


def test_yaml_1_2_has_no_other_booleans() -> None:
    """In YAML 1.1 these names and texts would be true and false."""
    schema = decode(
        """
        attributes:
        - {name: on, type: BOOL, rule: once, display_name: no, description: yes}
        """
    )
    assert schema.attributes["on"] == Attribute("on", DataType.BOOL, Rule.ONCE, "no", "yes")
    assert problems("attributes: [{name: a, type: BOOL, rule: once, hidden: yes}]") == [
        "line 1: hidden must be true or false"
    ]


def test_anchors_and_aliases_are_yaml_too() -> None:
    schema = decode(
        """
        attributes:
        - {name: a, type: &t LIST, rule: &r append}
        - {name: b, type: *t, rule: *r}
        """
    )
    assert schema.attributes["b"].rule is Rule.APPEND


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"attributes:\n- name: \xff", "line 2: a YAML file in UTF-8"),
        ("", "line 1: expected a mapping: the file has the keys attributes and identifiers"),
        ("[]", "line 1: expected a mapping: the file has the keys attributes and identifiers"),
        ("just a text", "line 1: expected a mapping: the file has the keys attributes and identifiers"),
        ("attributes: [", "line 1: not valid YAML: expected the node content, but found '<stream end>'"),
        ("\na: b: c", "line 2: not valid YAML: mapping values are not allowed here"),
        ("a: *b", "line 1: not valid YAML: found undefined alias 'b'"),
        ("--- {}\n--- {}", "line 2: not valid YAML: but found another document"),
        ("a: \x01", "line 1: not valid YAML: unacceptable character #x0001: special characters are not allowed"),
        ("[" * 5000, "line 1: nested too deeply"),
        ("attributes: 3", "line 1: attributes must be a list"),
        ("identifiers: {name: a}", "line 1: identifiers must be a list"),
        ("atributes: []", "line 1: unknown key [atributes]; the file has the keys attributes and identifiers"),
        ("[a]: 1", "line 1: unknown key […]; the file has the keys attributes and identifiers"),
        ("? [a]\n: 1", "line 1: unknown key […]; the file has the keys attributes and identifiers"),
        ("attributes: []\nattributes: []", "line 2: the key attributes is repeated"),
        ("&a [*a]", "line 1: expected a mapping: the file has the keys attributes and identifiers"),
    ],
)
def test_a_file_that_is_none(content: str | bytes, expected: str) -> None:
    assert problems(content) == [expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("level", "expected a mapping: an attribute has the keys name, type"),
        ("{name: a, type: NUMBER}", "an attribute needs the key rule, which is missing"),
        ("{type: NUMBER, rule: once}", "an attribute needs the key name, which is missing"),
        ("{name: a, type: NUMBER, rule: once, colour: red}", "unknown key [colour]; an attribute has the keys name, type"),
        ("{name: a, name: b, type: NUMBER, rule: once}", "the key name is repeated"),
        ("{name: 12, type: NUMBER, rule: once}", "name must be a string; put it in quotes"),
        ("{name: true, type: NUMBER, rule: once}", "name must be a string; put it in quotes"),
        ("{name: a, type: number, rule: once}", "type must be one of NUMBER, STRING, BOOL, DATETIME, LIST"),
        ("{name: a, type: NUMBER, rule: max}", "rule must be one of overwrite, once, accumulate, append"),
        ("{name: a, type: [NUMBER], rule: once}", "type must be one of"),
        ("{name: a, type: NUMBER, rule: once, display_name: 2024-01-01}", "display_name must be a string"),
        ("{name: a, type: NUMBER, rule: once, description: }", "description must be a string"),
        ("{name: a, type: NUMBER, rule: once, hidden: 1}", "hidden must be true or false"),
        ("{name: a, type: LIST, rule: once, max_elements: 1e3}", "max_elements must be an integer"),
        ("{name: a, type: LIST, rule: once, max_elements: 0x10}", "max_elements must be an integer"),
        ("{name: a, type: LIST, rule: once, max_elements: -1}", "max_elements must be an integer"),
        ("{name: a, type: LIST, rule: once, max_elements: 0}", "max_elements of attribute [a] is invalid; expected 1 to"),
        ("{name: a, type: STRING, rule: once, max_elements: 5}", "limits of attribute [a] is invalid"),
        ("{name: a, type: STRING, rule: append}", "attribute [a]: STRING cannot have the rule append; allowed: overwrite"),
        ("{name: A, type: NUMBER, rule: once}", "name [A] is invalid: lowercase letters"),
        ("{name: '', type: NUMBER, rule: once}", "name [] is invalid: lowercase letters"),
        ("{name: jg_a, type: NUMBER, rule: once}", "name [jg_a] is invalid: the prefix jg_ is reserved"),
        ("{name: first, type: NUMBER, rule: once}", "the attribute first is repeated"),
    ],
)
def test_an_attribute_that_cannot_be(line: str, expected: str) -> None:
    (problem,) = problems(f"attributes:\n- {{name: first, type: NUMBER, rule: once}}\n- {line}\n")
    assert problem.startswith("line 3: "), problem
    assert problem.removeprefix("line 3: ").startswith(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("phone", "expected a mapping: an identifier has the keys name, display_name, unique, masked"),
        ("{unique: true}", "an identifier needs the key name, which is missing"),
        ("{name: a, priority: 1}", "unknown key [priority]"),
        ("{name: a, unique: 'true'}", "unique must be true or false"),
        ("{name: jg_new}", "name [jg_new] is invalid: the prefix jg_ is reserved"),
        ("{name: Phone}", "name [Phone] is invalid"),
        ("{name: first}", "the identifier first is repeated"),
        (f"{{name: jg_UnionID, display_name: {'x' * 1001}}}", "display_name of [jg_UnionID] is longer than 1000"),
    ],
)
def test_an_identifier_that_cannot_be(line: str, expected: str) -> None:
    (problem,) = problems(f"identifiers:\n- {{name: first}}\n- {line}\n")
    assert problem.startswith("line 3: "), problem
    assert problem.removeprefix("line 3: ").startswith(expected)


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = problems(
        """
        attributes:
        - name: a
          type: NUMBERS
          rule: never
        - name: B
          type: BOOL
          rule: once
        identifiers:
        - {}
        other: 1
        """
    )
    assert [place for place, _, _ in (problem.partition(":") for problem in found)] == [
        "line 11",
        "line 4",
        "line 5",
        "line 6",
        "line 10",
    ]


def test_an_export_says_no_more_than_it_must() -> None:
    schema = Schema().declare(Attribute("null", DataType.NUMBER, Rule.ONCE, "等级"))
    schema = schema.declare(Attribute("tags", DataType.LIST, Rule.APPEND, hidden=True, limits=Limits(5, 512)))
    schema = schema.declare_identifier(Identifier("phone", masked=True))
    assert schema_file.encode(schema) == schema_file.HEADER + textwrap.dedent(
        """\
        attributes:
        - name: 'null'
          type: NUMBER
          rule: once
          display_name: 等级
        - name: tags
          type: LIST
          rule: append
          hidden: true
          max_elements: 5
        identifiers:
        - name: phone
          unique: true
          masked: true
        """
    )


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not name.startswith("jg_"))
LINES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=20
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@st.composite
def attributes(draw: st.DrawFn) -> Attribute:
    data_type = draw(st.sampled_from(DataType))
    limits = DEFAULT_LIMITS
    if data_type is DataType.LIST:
        limits = Limits(draw(st.integers(1, 100_000)), draw(st.integers(1, 8192)))
    rule = draw(st.sampled_from(LEGAL_RULES[data_type]))
    return Attribute(draw(NAMES), data_type, rule, draw(LINES), draw(TEXTS), draw(st.booleans()), limits)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    schema = Schema()
    for attribute in draw(st.lists(attributes(), max_size=4, unique_by=lambda a: a.name)):
        schema = schema.declare(attribute)
    for name in draw(st.lists(NAMES, max_size=3, unique=True)):
        schema = schema.declare_identifier(Identifier(name, draw(LINES), draw(st.booleans()), draw(st.booleans())))
    if draw(st.booleans()):
        schema = schema.edit_identifier("jg_UnionID", display_name=draw(LINES), masked=draw(st.booleans()))
    if draw(st.booleans()):
        schema = schema.order_identifiers(draw(st.permutations([i.name for i in schema.identifiers])))
    return schema


@given(schemas())
def test_what_is_exported_reads_as_the_same_schema(schema: Schema) -> None:
    assert schema_file.decode(schema_file.encode(schema).encode()) == schema


@given(st.binary(max_size=60) | TEXTS.map(str.encode))
def test_no_content_is_more_than_refused(content: bytes) -> None:
    # Any other exception fails the test.
    with contextlib.suppress(Refused):
        schema_file.decode(content)
