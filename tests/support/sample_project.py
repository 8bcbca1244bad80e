"""The project that most tests use: an attribute for every legal pair of type and rule, and the identifier `phone`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from support.actors import TESTER
from support.commands import add_project
from usertable.app.service import Service
from usertable.domain.schema import LEGAL_RULES, Attribute, Identifier, Project, Schema
from usertable.domain.values import DEFAULT_LIMITS, DataType, Limits
from usertable.store import Store, open_store

CREATED_AT = 1_700_000_000_000
"""Milliseconds since 1970 UTC."""


def sample_schema(prefix: str = "user_", *, elements: int = DEFAULT_LIMITS.elements) -> Schema:
    """Return a schema with an attribute `<prefix><type>_<rule>` for every legal pair, such as `user_number_once`, and
    `phone`.

    Args:
        elements: the maximum number of elements of each LIST.
    """
    schema = Schema()
    for data_type, rules in LEGAL_RULES.items():
        limits = Limits(elements=elements) if data_type is DataType.LIST else DEFAULT_LIMITS
        for rule in rules:
            schema = schema.declare(Attribute(f"{prefix}{data_type.lower()}_{rule}", data_type, rule, limits=limits))
    return schema.declare_identifier(Identifier("phone"))


def sample_project(
    store: Store,
    id: str,
    secret: str,
    *,
    name: str = "Tests",
    qps: int | None = None,
    schema: Schema | None = None,
    created_at: int = CREATED_AT,
) -> Project:
    """Create a project with the sample schema, or with the one given."""
    project = replace(_project_with_secret(secret), id=id, name=name, qps=qps, created_at=created_at)
    add_project(store, project, TESTER)
    service = Service(store, clock=lambda: created_at)
    service.apply_schema(id, schema or sample_schema(), actor=TESTER)
    return service.project(id)


@cache
def _project_with_secret(secret: str) -> Project:
    """Return a project of no store. Hashing a secret takes 25 ms of CPU by design, and most tests need a project."""
    return replace(Service(open_store("memory:")).create_project("Tests", secret=secret, actor=TESTER)[0], number=0)
