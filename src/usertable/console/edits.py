"""A form that edits something, against what it showed and what is there now: who saves must not undo what others saved."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from usertable.console.context import PageContext
from usertable.domain.schema import Project
from usertable.domain.schema_change import ChangeKind

SHOWN = "shown"
"""The field with what the form showed, as in `{"display_name": "Level", "description": ""}`."""

UNLIMITED = "unlimited"
"""The value of `qps` for no limit."""
CHANGES_SEARCHED = 100

Fields = Mapping[str, str]
"""Texts by the names of fields; a box is "on", or empty."""


def as_shown(now: Fields) -> str:
    """What a form carries of what it shows."""
    return json.dumps(dict(now), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Edit:
    """A form that was sent.

    Args:
        now: what is there, by field.
        form: what was sent, by field, with what the form had shown. Without that, it counts as having shown what is there.
        boxes: the fields that are boxes, which are not sent without a tick. Any other field that is not sent stays.
    """

    now: Fields
    form: Fields
    boxes: Collection[str] = ()

    @property
    def shown(self) -> Fields:
        """What was there when the form was made."""
        try:
            shown = json.loads(self.form[SHOWN])
        except (KeyError, ValueError):
            return self.now
        if not isinstance(shown, dict):
            return self.now
        return {name: str(shown.get(name, value)) for name, value in self.now.items()}

    @property
    def changes(self) -> dict[str, str]:
        """The fields that were edited in the form. What it showed and nobody touched is not sent on."""
        shown = self.shown
        return {name: sent for name in self.now if (sent := self._sent(name)) != normalized(shown[name])}

    @property
    def others(self) -> dict[str, tuple[str, str]]:
        """The fields that changed since the form was made, otherwise than it asks for: what they were, and what they are."""
        shown = self.shown
        return {
            name: (shown[name], value)
            for name, value in self.now.items()
            if normalized(value) not in (normalized(shown[name]), self._sent(name))
        }

    @property
    def merged(self) -> dict[str, str]:
        """The fields of the form when it is shown again: what was edited as it was typed, the rest as it is now."""
        return {**self.now, **self.changes, SHOWN: as_shown(self.now)}

    def _sent(self, name: str) -> str:
        if name in self.form or name in self.boxes:
            return normalized(self.form.get(name, ""))
        return normalized(self.shown[name])


def normalized(text: str) -> str:
    """A text without what a browser or a careless hand adds: the ends of lines in a form are always CR LF."""
    return text.replace("\r\n", "\n").strip()


def what_others_did(
    context: PageContext,
    project: Project,
    others: Mapping[str, tuple[str, str]],
    kinds: Iterable[ChangeKind],
    subject: str | None = None,
) -> dict[str, Any]:
    """What the notice of a form says that was made before somebody else's change.

    Args:
        others: see :attr:`Edit.others`.
        kinds: of the changes that can have done it.
        subject: the name of the attribute or identifier.
    """
    of_it = (
        each
        for each in context.service.schema_changes(project.id, CHANGES_SEARCHED)
        if not isinstance(each.what, str) and any(c.kind in kinds and subject in (None, c.subject) for c in each.what)
    )
    return {
        "fields": [
            (context.text(f"change.field.{name}"), _in_words(context, name, before), _in_words(context, name, after))
            for name, (before, after) in others.items()
        ],
        "change": next(of_it, None),
    }


def _in_words(context: PageContext, name: str, value: str) -> str:
    if name in ("masked", "unique"):
        return context.text("yes" if value else "no")
    if name == "qps" and value == UNLIMITED:
        return context.text("project.unlimited")
    return context.text(f"rule.{value}") if name == "rule" else value or "–"
