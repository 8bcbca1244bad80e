"""The change log of an edit: only what changed."""

from __future__ import annotations

from dataclasses import replace

from usertable.domain.audit import AuditEvent, AuditKind, Facts
from usertable.domain.schema import Attribute, Identifier, Project, Rule, Schema
from usertable.domain.schema_change import changes_between
from usertable.domain.values import DataType, Limits

LEVEL = Attribute("level", DataType.STRING, Rule.OVERWRITE)
TAGS = Attribute("tags", DataType.LIST, Rule.APPEND, "兴趣", limits=Limits(5, 512))
SCHEMA = Schema().declare(LEVEL).declare_identifier(Identifier("phone"))
BEFORE = Project(1, "one", "One", b"salt", b"hash", "Asia/Shanghai", 100, 0, SCHEMA)
PRESETS = ["jg_registration_id", "jg_UnionID"]


def changes(schema: Schema) -> list[AuditEvent]:
    return changes_between(BEFORE, replace(BEFORE, schema=schema))


def test_a_new_project_has_its_settings() -> None:
    facts: Facts = {"name": "One", "timezone": "Asia/Shanghai", "qps": 100}
    assert changes_between(None, BEFORE) == [AuditEvent(AuditKind.CREATE_PROJECT, after=facts)]


def test_a_secret_is_never_told() -> None:
    assert changes_between(BEFORE, replace(BEFORE, secret_hash=b"other")) == [AuditEvent(AuditKind.ROTATE_SECRET)]


def test_what_holds_the_values_is_no_change_of_the_project() -> None:
    assert changes_between(BEFORE, replace(BEFORE, version=2, reported=frozenset({"level"}))) == []


def test_attributes_come_change_and_go() -> None:
    limits: Facts = {"type": "LIST", "rule": "append", "display_name": "兴趣", "max_elements": 5}
    assert changes(SCHEMA.declare(TAGS)) == [AuditEvent(AuditKind.DECLARE_ATTRIBUTE, "tags", after=limits)]
    assert changes(SCHEMA.edit("level", hidden=True, description="")) == [
        AuditEvent(AuditKind.EDIT_ATTRIBUTE, "level", {"hidden": False}, {"hidden": True})
    ]
    assert changes(SCHEMA.delete("level", ())) == [
        AuditEvent(AuditKind.DELETE_ATTRIBUTE, "level", before={"type": "STRING", "rule": "overwrite"})
    ]


def test_identifiers_come_change_move_and_go() -> None:
    with_login = SCHEMA.declare_identifier(Identifier("login_id", unique=False))
    declared = AuditEvent(AuditKind.DECLARE_IDENTIFIER, "login_id", after={"unique": False})
    assert changes(with_login) == [declared]
    assert changes(with_login.order_identifiers(["login_id", "phone", *PRESETS])) == [
        declared,
        AuditEvent(
            AuditKind.ORDER_IDENTIFIERS,
            before={"order": ["phone", "login_id", *PRESETS]},
            after={"order": ["login_id", "phone", *PRESETS]},
        ),
    ]
    assert changes(SCHEMA.edit_identifier("phone", masked=True)) == [
        AuditEvent(AuditKind.EDIT_IDENTIFIER, "phone", {"masked": False}, {"masked": True})
    ]
    assert changes(SCHEMA.delete_identifier("phone", ())) == [
        AuditEvent(AuditKind.DELETE_IDENTIFIER, "phone", before={"unique": True})
    ]
