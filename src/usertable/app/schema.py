"""A project's schema: attributes, identifiers, and the schema as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from usertable.app.use_cases import UseCases, check_version
from usertable.domain.actor import Actor
from usertable.domain.errors import Problem, ProblemKind, Refused, phrase
from usertable.domain.phrases import PhraseKind
from usertable.domain.schema import Attribute, Identifier, Project, Schema
from usertable.domain.schema_plan import Step, difference


class SchemaEdits(UseCases):
    """Use cases about attributes and identifiers."""

    def declare_attribute(
        self, project_id: str, attribute: Attribute, *, version: int | None = None, actor: Actor
    ) -> Attribute:
        """Declare an attribute. See :meth:`~usertable.domain.schema.Schema.declare` for what is refused."""
        self._edit_schema(project_id, lambda s: s.declare(attribute, self._max_attributes), actor, version)
        return attribute

    def edit_attribute(
        self, project_id: str, name: str, *, version: int | None = None, actor: Actor, **changes: str | bool
    ) -> Attribute:
        """Change `display_name`, `description`, `hidden` or `history` (whether its changes are recorded) of an attribute."""

        def edit(schema: Schema) -> Schema:
            edited: dict[str, str | bool | int | None] = {**changes}
            if "history" in edited:
                # By the clock of the transaction: what was written before it was not recorded.
                attribute = schema.attribute(name).with_history(bool(edited.pop("history")), self._clock())
                edited["history_since"] = attribute.history_since
            return schema.edit(name, **edited)

        return self._edit_schema(project_id, edit, actor, version).schema.attribute(name)

    def delete_attribute(self, project_id: str, name: str, *, version: int | None = None, actor: Actor) -> None:
        """Delete an attribute for which no value was ever reported. Any other is refused."""

        def edit(project: Project) -> Project:
            return replace(project, schema=project.schema.delete(name, project.reported))

        self._edit(project_id, edit, actor, version)

    # identifiers

    def declare_identifier(
        self, project_id: str, identifier: Identifier, *, version: int | None = None, actor: Actor
    ) -> Identifier:
        """Declare an identifier, with a priority below the declared ones and above trailing presets."""
        self._edit_schema(project_id, lambda s: s.declare_identifier(identifier), actor, version)
        return identifier

    def edit_identifier(
        self, project_id: str, name: str, *, version: int | None = None, actor: Actor, **changes: str | bool
    ) -> Identifier:
        """Change `display_name` or `masked` of an identifier."""
        edited = self._edit_schema(project_id, lambda s: s.edit_identifier(name, **changes), actor, version)
        return edited.schema.identifier(name)

    def delete_identifier(self, project_id: str, name: str, *, version: int | None = None, actor: Actor) -> None:
        """Delete an identifier that is not a preset and of which no user has a value."""

        def edit(project: Project) -> Project:
            return replace(project, schema=project.schema.delete_identifier(name, project.identifying))

        self._edit(project_id, edit, actor, version)

    def order_identifiers(
        self, project_id: str, names: Sequence[str], *, version: int | None = None, actor: Actor
    ) -> Project:
        """Set the priority order. `names` must contain every identifier once; the first gets priority 1."""
        return self._edit_schema(project_id, lambda s: s.order_identifiers(names), actor, version)

    # schema as code

    def plan_schema(self, project_id: str, wanted: Schema, *, version: int | None = None) -> tuple[list[Step], list[Step]]:
        """Return the steps that would turn the project's schema into `wanted`, and those that would be refused."""
        project = self.project(project_id)
        check_version(project, version)
        return difference(project.schema, wanted)

    def apply_schema(self, project_id: str, wanted: Schema, *, version: int | None = None, actor: Actor) -> list[Step]:
        """Turn the project's schema into `wanted`, completely or not at all. Return the steps that were applied.

        Raises:
            Refused: a step would lose or reinterpret data, or a new attribute or identifier is not legal.
        """
        done: list[Step] = []

        def edit(project: Project) -> Project:
            steps, refused = difference(project.schema, wanted)
            if refused:
                raise refuse_steps(refused)
            schema = project.schema
            for name, attribute in wanted.attributes.items():
                if name not in schema.attributes:
                    schema = schema.declare(attribute, self._max_attributes)
                else:
                    recorded = attribute.history_since is not None
                    schema = schema.edit(
                        name,
                        display_name=attribute.display_name,
                        description=attribute.description,
                        hidden=attribute.hidden,
                        limits=attribute.limits,
                        history_since=schema.attribute(name).with_history(recorded, self._clock()).history_since,
                    )
            known = {i.name for i in schema.identifiers}
            for identifier in wanted.identifiers:
                if identifier.name not in known:
                    schema = schema.declare_identifier(identifier)
                else:
                    schema = schema.edit_identifier(
                        identifier.name, display_name=identifier.display_name, masked=identifier.masked
                    )
            done[:] = steps
            return replace(project, schema=schema.order_identifiers(i.name for i in wanted.identifiers))

        self._edit(project_id, edit, actor, version)
        return done

    def _edit_schema(
        self, project_id: str, edit: Callable[[Schema], Schema], actor: Actor, version: int | None = None
    ) -> Project:
        return self._edit(project_id, lambda p: replace(p, schema=edit(p.schema)), actor, version)


def refuse_steps(steps: Sequence[Step]) -> Refused:
    """Return the refusal of a schema that would lose or reinterpret data, naming every such step."""
    named = tuple(phrase(_REFUSED_STEPS[step.verb, step.thing], name=step.name, detail=step.detail) for step in steps)
    return Refused([Problem(ProblemKind.ATTRIBUTE_FIXED, None, {"steps": named})])


_REFUSED_STEPS = {
    ("change", "attribute"): PhraseKind.CHANGE_ATTRIBUTE,
    ("change", "identifier"): PhraseKind.CHANGE_IDENTIFIER,
    ("delete", "attribute"): PhraseKind.DELETE_ATTRIBUTE,
    ("delete", "identifier"): PhraseKind.DELETE_IDENTIFIER,
}
