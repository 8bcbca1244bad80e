"""Copying a whole store into another, of any engine; begun again, it goes on where it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from usertable.domain.errors import StoreFault
from usertable.domain.schema import Project
from usertable.store.protocol import Store
from usertable.store.tables import TABLES, USERS, Row, TableSpec

PAGE = 1000
_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")

Progress = Callable[[str, int, int], None]
"""Told what is done ("copy" or "verify"), and how many of how many users so far."""


@dataclass(frozen=True, slots=True)
class Sum:
    """What a table of a project comes to: the number of its rows, and a SHA-256 over all of them in order."""

    rows: int
    checksum: str


def copy_store(source: Store, target: Store, progress: Progress) -> dict[str, dict[str, Sum]]:
    """Copy all projects with all that they have, and compare; the sums by project id and table.

    A project appears in the target when all that it has is there, so what was interrupted is never served.

    Raises:
        StoreFault: the target holds other projects, or a copy differs from its original.
    """
    projects = source.projects()
    there = {project.number: project for project in target.projects()}
    for number, project in there.items():
        if number not in {p.number for p in projects if p.id == project.id}:
            raise StoreFault(f"the target has a project of its own, {project.id}: copy into an empty store")
    total = sum(source.count(project.number, USERS) for project in projects)
    done = sum(target.count(project.number, USERS) for project in projects)
    progress("copy", done, total)
    for project in projects:
        if project.number in there:
            continue
        for spec in TABLES:
            for page in _pages(source, project.number, spec, target.last(project.number, spec)):
                target.load(project.number, spec, page)
                if spec is USERS:
                    done += len(page)
                    progress("copy", done, total)
        target.finish_copy(project, source.next_cuid(project.number))
    return _verify(source, target, projects, total, progress)


def _verify(
    source: Store, target: Store, projects: list[Project], total: int, progress: Progress
) -> dict[str, dict[str, Sum]]:
    copies = {project.number: project for project in target.projects()}
    sums: dict[str, dict[str, Sum]] = {}
    done = 0
    for project in projects:
        if copies[project.number] != project or target.next_cuid(project.number) != source.next_cuid(project.number):
            raise StoreFault(f"project {project.id} is not the same in both; empty the target and copy again")
        sums[project.id] = {}
        for spec in TABLES:
            original, copy = (_sum(store, project.number, spec) for store in (source, target))
            if original != copy:
                raise StoreFault(
                    f"project {project.id}, {spec.table}: {original.rows} rows in the source, {copy.rows} in the target;"
                    f" checksums {original.checksum[:12]} and {copy.checksum[:12]}; empty the target and copy again"
                )
            sums[project.id][spec.table] = copy
        done += sums[project.id][USERS.table].rows
        progress("verify", done, total)
    return sums


def _sum(store: Store, project: int, spec: TableSpec) -> Sum:
    checksum = hashlib.sha256()
    rows = 0
    for page in _pages(store, project, spec, None):
        rows += len(page)
        for row in page:
            checksum.update(_encoder.encode(row) + b"\n")
    return Sum(rows, checksum.hexdigest())


def _pages(store: Store, project: int, spec: TableSpec, after: Row | None) -> Iterator[list[Row]]:
    while page := store.rows(project, spec, after, PAGE):
        yield page
        after = page[-1][: spec.key]
