"""The part of a write that is the same in every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from usertable.domain.profile import Profile
from usertable.store.protocol import Decide
from usertable.store.records import (
    KeyReused,
    NewReceipt,
    Refusal,
    Replayed,
    Result,
    SchemaStale,
    StoredReceipt,
    UserUnknown,
    Write,
    Written,
)


@dataclass(slots=True)
class Resolution:
    """What a batch comes to: an answer per write, and what the engine must persist for it."""

    results: list[Result]
    profiles: dict[tuple[int, int], Profile]
    """The changed ones, by (project, CUID)."""
    receipts: list[NewReceipt]
    reported: dict[int, set[str]]
    """By project, the names of the attributes that got a value."""

    def profiles_by_project(self) -> dict[int, dict[int, Profile]]:
        """The changed ones by project, and there by CUID."""
        changed: dict[int, dict[int, Profile]] = {}
        for (project, cuid), profile in self.profiles.items():
            changed.setdefault(project, {})[cuid] = profile
        return changed


def resolve(
    writes: Sequence[Write],
    decide: Decide,
    versions: Mapping[int, int],
    profiles: dict[tuple[int, int], Profile],
    receipts: dict[tuple[int, str], StoredReceipt],
) -> Resolution:
    """Decide a batch, in order, on what the engine loaded for it: later writes see what earlier ones did.

    Args:
        versions: the project version by project number, as stored now.
        profiles: by (project, CUID); a user that is not in it does not exist. Updated on the way.
        receipts: the stored receipts of the batch's keys, by (project, key). Updated on the way.
    """
    results: list[Result] = []
    changed: dict[tuple[int, int], Profile] = {}
    new_receipts: list[NewReceipt] = []
    reported: dict[int, set[str]] = {}
    for write in writes:
        project = write.project
        receipt = write.receipt
        if receipt is not None:
            stored = receipts.get((project, receipt.key))
            if stored is not None:
                same = stored.fingerprint == receipt.fingerprint
                results.append(Replayed(stored.written) if same else KeyReused())
                continue
        if versions.get(project) != write.schema_version:
            results.append(SchemaStale())
            continue
        place = (project, write.cuid)
        profile = profiles.get(place)
        if profile is None:
            results.append(UserUnknown())
            continue
        decision = decide(profile, write.patch, write.now)
        if decision.problems:
            results.append(Refusal(decision.problems))
            continue
        attributes = decision.profile.attributes if write.row else None
        outcome = Written(decision.profile.version, decision.outcomes, attributes)
        results.append(outcome)
        if write.dry:
            continue
        if receipt is not None:
            kept = outcome if receipt.whole else replace(outcome, attributes=None)
            receipts[project, receipt.key] = StoredReceipt(receipt.fingerprint, kept)
            new_receipts.append(NewReceipt(project, receipt.key, write.cuid, receipt.fingerprint, kept, write.now))
        if decision.profile is not profile:
            profiles[place] = changed[place] = decision.profile
            reported.setdefault(project, set()).update(decision.outcomes)
    return Resolution(results, changed, new_receipts, reported)
