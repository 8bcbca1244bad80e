"""The project that most tests use: an attribute for every legal pair of type and rule, and the identifier `phone`."""

from __future__ import annotations

from usertable.app.service import Service
from usertable.domain.schema import LEGAL_RULES, Attribute, Identifier, Project, Schema
from usertable.domain.values import DEFAULT_LIMITS, DataType, Limits


def sample_schema(prefix: str = "user_", *, elements: int = DEFAULT_LIMITS.elements) -> Schema:
    """One attribute `<prefix><type>_<rule>` for every legal pair, such as `user_number_once`, and the identifier `phone`.

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
    service: Service, id: str, secret: str, *, name: str = "Tests", qps: int | None = None, schema: Schema | None = None
) -> Project:
    """Create a project with the sample schema, or with the one given."""
    service.create_project(name, id=id, secret=secret, qps=qps, who="test")
    service.apply_schema(id, schema or sample_schema(), who="test")
    return service.project(id)
