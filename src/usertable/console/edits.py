"""Compare a form with what it showed and with what is stored now, so that saving it does not undo others' changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from usertable.console.context import PageContext
from usertable.domain.schema import Project

SHOWN = "shown"
"""Name of the field that holds what the form showed: `{"display_name": "Level", "description": ""}`."""

UNLIMITED = "unlimited"
"""Value of `qps` for no limit."""
CHANGES_SEARCHED = 100

Fields = Mapping[str, str]
"""Values by field name. A checkbox is "on" or empty."""


def as_shown(now: Fields) -> str:
    """Return the value of the field :data:`SHOWN` for a form that shows these fields."""
    return json.dumps(dict(now), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Edit:
    """A submitted form.

    Args:
        now: stored values by field.
        form: submitted values by field, and what the form showed. Without the latter, it is taken to have shown `now`.
        boxes: names of the checkboxes. A checkbox that was not sent is off; any other field that was not sent is unchanged.
    """

    now: Fields
    form: Fields
    boxes: Collection[str] = ()

    @property
    def shown(self) -> Fields:
        """The stored values when the form was rendered."""
        try:
            shown = json.loads(self.form[SHOWN])
        except (KeyError, ValueError):
            return self.now
        if not isinstance(shown, dict):
            return self.now
        return {name: str(shown.get(name, value)) for name, value in self.now.items()}

    @property
    def changes(self) -> dict[str, str]:
        """The fields that were edited in the form. Fields left as they were shown are not included."""
        shown = self.shown
        return {name: sent for name in self.now if (sent := self._sent(name)) != normalized(shown[name])}

    @property
    def others(self) -> dict[str, tuple[str, str]]:
        """The fields that others changed to another value than the form has: the value shown and the value stored now."""
        shown = self.shown
        return {
            name: (shown[name], value)
            for name, value in self.now.items()
            if normalized(value) not in (normalized(shown[name]), self._sent(name))
        }

    @property
    def merged(self) -> dict[str, str]:
        """The values to show the form with again: edited fields as they were typed, the others as stored now."""
        return {**self.now, **self.changes, SHOWN: as_shown(self.now)}

    def _sent(self, name: str) -> str:
        if name in self.form or name in self.boxes:
            return normalized(self.form.get(name, ""))
        return normalized(self.shown[name])


def normalized(text: str) -> str:
    """Normalize a text from a form: browsers send line ends as CR LF, and people leave blanks around it."""
    return text.replace("\r\n", "\n").strip()


def what_others_did(
    context: PageContext,
    project: Project,
    others: Mapping[str, tuple[str, str]],
    kinds: Collection[str],
    subject: str | None = None,
) -> dict[str, Any]:
    """Return what the notice of an edit conflict shows.

    Args:
        others: the conflicting fields, see :attr:`Edit.others`.
        kinds: kinds of changes that could have caused the conflict.
        subject: name of the attribute or identifier.
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
    if name in ("masked", "unique", "record", "all_reports"):
        return context.text("yes" if value else "no")
    if name == "qps" and value == UNLIMITED:
        return context.text("project.unlimited")
    return context.text(f"rule.{value}") if name == "rule" else value or "–"
