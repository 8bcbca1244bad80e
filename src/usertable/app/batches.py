"""Batches of writes: entries for many users, each written on its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from usertable.app.access import ProjectAccess
from usertable.app.writes import AttributeWriter, unknown_user
from usertable.commands.users import origin_of
from usertable.domain.actor import Actor
from usertable.domain.errors import Overloaded, Problem, Refused, Unavailable
from usertable.domain.patch import Patch, validate
from usertable.domain.profile import Profile
from usertable.store.records import Receipt, Refusal, Replayed, Result, SchemaStale, UserUnknown, Write, Written

log = logging.getLogger("usertable.app")

_ENTRIES_AT_ONCE = 128
_CHECKED_AT_ONCE = 32


@dataclass(slots=True)
class BatchEntry:
    """One record of a batch: a user, by CUID or by (identifier, value), and the attributes to set."""

    cuid: int | None
    identity: tuple[str, str] | None
    data: Mapping[str, Any] | None
    receipt: Receipt | None = None
    problems: Sequence[Problem] = ()
    """Problems of its form. If there are none, there is `data`, and either `cuid` or `identity`, or `identifiers`."""
    identifiers: Mapping[str, Any] | None = None
    """For a row of an import: values by identifier, not validated."""


class BatchWriter(AttributeWriter):
    """Sets attributes of many users in one call."""

    async def set_many(
        self, access: ProjectAccess, entries: Sequence[BatchEntry], *, register: bool, actor: Actor, dry_run: bool = False
    ) -> list[tuple[int | None, Result]]:
        """Write every entry on its own. Return its CUID, if known, and its result, in order.

        Entries of one user are decided in order in one transaction, and each sees the effects of earlier ones. If one cannot
        be written now (its result is an exception), later entries of the same user are not written and have the same result,
        so that a retry of all failed ones keeps their order.

        Args:
            register: whether a value that belongs to nobody creates a user (Get CUID), or is refused.
        """
        cuids, results = await self._find_users(access, entries, actor, register=register, dry_run=dry_run)
        turns: dict[tuple[int | None, int], list[int]] = {}
        for index, cuid in enumerate(cuids):
            if index not in results:
                # An entry without a known user does not affect others.
                turns.setdefault((cuid, index if cuid is None else 0), []).append(index)

        async def write(cuid: int | None, indexes: Sequence[int]) -> None:
            found = await self._set_entries(access, cuid, [entries[index] for index in indexes], actor, dry_run=dry_run)
            results.update(zip(indexes, found, strict=True))

        tasks = []
        for count, ((cuid, _), indexes) in enumerate(turns.items(), start=1):
            tasks.append(asyncio.create_task(write(cuid, indexes)))
            if count % _ENTRIES_AT_ONCE == 0:
                # Single calls that arrived meanwhile get their turn.
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return [(cuid, results[index]) for index, cuid in enumerate(cuids)]

    async def _set_entries(
        self, access: ProjectAccess, cuid: int | None, entries: Sequence[BatchEntry], actor: Actor, *, dry_run: bool
    ) -> list[Result]:
        """Write one user's entries, in order. Return their results."""
        results: dict[int, Result] = {}
        try:
            if cuid is None:
                return [await self._set_of_nobody(access, entry, dry_run=dry_run) for entry in entries]
            await self._write_together(access, cuid, entries, results, actor, dry_run=dry_run)
            await self._refuse_rest(access, cuid, entries, results)
        except Exception as failure:
            if not isinstance(failure, Unavailable):
                log.error("a record of a batch failed", exc_info=failure)
            for index in range(len(entries)):
                results.setdefault(index, failure)
        return [results[index] for index in range(len(entries))]

    async def _write_together(
        self,
        access: ProjectAccess,
        cuid: int,
        entries: Sequence[BatchEntry],
        results: dict[int, Result],
        actor: Actor,
        *,
        dry_run: bool,
    ) -> None:
        """Write the valid entries in one transaction, and add the result of each to `results`.

        Raises any exception that prevents a write. Entries without a result in `results` were not written either.
        """
        for _ in range(3):
            writes: dict[int, Write] = {}
            project, now = access.project, self._clock()
            origin = origin_of(project, actor)
            for index, entry in enumerate(entries):
                await _give_way(index)
                if index in results or entry.problems or entry.data is None:
                    continue
                patch = validate(project.schema, entry.data, access.zone)
                if type(patch) is Patch:
                    writes[index] = Write(
                        *(project.number, cuid, patch, project.version, now, entry.receipt, dry_run),
                        row=False,
                        size=patch.maximum_bytes(),
                        origin=origin,
                        request=actor.request_id,
                        all_reports=project.history.all_reports,
                    )
            found = await self._committed(list(writes.values()))
            for index, result in zip(writes, found, strict=True):
                if isinstance(result, Exception):
                    raise result
                if type(result) is not SchemaStale:
                    results[index] = Refusal([unknown_user(cuid)]) if type(result) is UserUnknown else result
            if writes.keys() <= results.keys():
                return
            await self._authenticator.refresh(access)
        raise Overloaded(f"the schema of project {access.project.id} keeps changing")

    async def _committed(self, writes: Sequence[Write]) -> list[Result]:
        """Return the results of one user's writes. After a failed one, whose result is an exception, none was written."""
        if not writes:
            return []
        futures = self.commit.submit_together(writes)
        found: list[Result] = list(await asyncio.gather(*futures, return_exceptions=True))  # type: ignore[arg-type]
        if len(writes) == 1 or not isinstance(found[0], Exception) or isinstance(found[0], Unavailable):
            return found
        # Together they failed because of a defect, and none is stored. Now those before the defective one are.
        found = []
        for write in writes:
            found += await asyncio.gather(self.commit.submit(write), return_exceptions=True)  # type: ignore[arg-type]
            if isinstance(found[-1], Exception):
                break
        return found + found[-1:] * (len(writes) - len(found))

    async def _refuse_rest(
        self, access: ProjectAccess, cuid: int, entries: Sequence[BatchEntry], results: dict[int, Result]
    ) -> None:
        """Add the problems of the entries without a result to `results`."""
        rest = [index for index in range(len(entries)) if index not in results]
        if not rest:
            return
        is_there = any(isinstance(result, Written | Replayed) for result in results.values())
        unknown: list[Problem] = [] if is_there else await self.problems(access, cuid, [], None)
        for number, index in enumerate(rest):
            await _give_way(number)
            entry = entries[index]
            results[index] = await self._refusal(access, [*entry.problems, *unknown], entry.data)

    async def _set_of_nobody(self, access: ProjectAccess, entry: BatchEntry, *, dry_run: bool) -> Result:
        """Return the problems of an entry that names nobody, or the result for a user that a dry run does not create."""
        patch = validate(access.project.schema, entry.data, access.zone) if entry.data is not None else []
        if entry.problems or type(patch) is not Patch:
            return Refusal(await self.problems(access, None, entry.problems, entry.data))
        assert dry_run, "whose user would be made"
        now = self._clock()
        decision = self._users.rules(Profile.new(now), patch, now)
        if decision.problems:
            return Refusal(decision.problems)
        return Written(decision.profile.version, decision.outcomes, decision.profile.attributes)

    async def _find_users(
        self, access: ProjectAccess, entries: Sequence[BatchEntry], actor: Actor, *, register: bool, dry_run: bool
    ) -> tuple[list[int | None], dict[int, Result]]:
        """Return the CUID of each entry, if known; and by index, the result of each entry that fails without one."""
        cuids = [entry.cuid for entry in entries]
        results: dict[int, Result] = {}
        by_name: dict[str, dict[int, str]] = {}
        for index, entry in enumerate(entries):
            if entry.identity is not None and not entry.problems:
                name, value = entry.identity
                by_name.setdefault(name, {})[index] = value
        for name, wanted in by_name.items():
            try:
                named = [entries[index] for index in wanted]
                known = await self._find_cuids(access, name, named, actor, register=register and not dry_run)
            except Refused as refused:
                results |= {index: Refusal(list(refused.problems)) for index in wanted}
            except Unavailable as failure:
                results |= dict.fromkeys(wanted, failure)
            else:
                for index, value in wanted.items():
                    cuids[index] = known.get(value)
                    if cuids[index] is None and not (register and dry_run):
                        problems = [] if register else [unknown_user(f"{name}={value}")]
                        results[index] = await self._refusal(access, problems, entries[index].data)
        return cuids, results

    async def _refusal(self, access: ProjectAccess, known: Sequence[Problem], data: Mapping[str, Any] | None) -> Result:
        """Return the result of an entry that is not written.

        Without a problem, the schema has changed since it was validated.
        """
        problems = await self.problems(access, None, known, data)
        return Refusal(problems) if problems else Overloaded("the schema keeps changing")

    async def _find_cuids(
        self, access: ProjectAccess, name: str, entries: Sequence[BatchEntry], actor: Actor, *, register: bool
    ) -> dict[str, int]:
        """Return the CUIDs of one identifier's values; with `register`, also of new ones. May raise Refused."""
        project = access.project
        if register:
            project.schema.registration_identifier(name)
        values = list(dict.fromkeys(entry.identity[1] for entry in entries if entry.identity))
        known = await asyncio.to_thread(self._users.find_cuids, project, name, values)
        if register:
            # An entry that will be refused does not create a user.
            new: dict[str, None] = {}
            for number, entry in enumerate(entries):
                await _give_way(number)
                if (
                    entry.identity
                    and entry.identity[1] not in known
                    and type(validate(project.schema, entry.data or {}, access.zone)) is Patch
                ):
                    new[entry.identity[1]] = None
            if new:
                made = await asyncio.to_thread(self._users.register, project, name, list(new), actor=actor)
                known |= zip(new, made, strict=True)
        return known


async def _give_way(number: int) -> None:
    """Yield to other requests periodically: validating a batch of entries with many attributes takes long."""
    if number % _CHECKED_AT_ONCE == _CHECKED_AT_ONCE - 1:
        await asyncio.sleep(0)
