"""Copying a whole store into another, of any engine. A copy that was interrupted resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from usertable.domain.audit import INSTALLATION
from usertable.domain.errors import StoreFault
from usertable.domain.schema import Project
from usertable.store.protocol import Store
from usertable.store.tables import OF_INSTALLATION, ROWS_BYTES, TABLES, USERS, Row, TableSpec

PAGE = 1000
"""Maximum number of rows that are copied together."""
PAGE_BYTES = ROWS_BYTES
"""Characters and bytes of rows after which there are no more of them."""
OF_NO_PROJECT = "(installation)"
"""Used in place of a project's ID for data that belongs to none. No project can have it."""
_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")

Progress = Callable[[str, int, int], None]
"""Called with the current step ("copy" or "verify"), the number of users done, and their total."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The checksum of a project's table: the number of its rows, and a SHA-256 over all of them in order."""

    rows: int
    checksum: str


def copy_store(source: Store, target: Store, progress: Progress) -> dict[str, dict[str, Sum]]:
    """Copy people, the audit log, and all projects with their data, and compare. Return the sums by project ID and table.

    A project appears in the target after all its data is there, so an incomplete copy is never served.

    Raises:
        StoreFault: the target contains other projects or people, or a copy differs from its original.
    """
    projects = source.projects()
    there = {project.number: project for project in target.projects()}
    for number, project in there.items():
        if number not in {p.number for p in projects if p.id == project.id}:
            raise StoreFault(f"the target already has the project {project.id}: copy into an empty store")
    total = sum(source.count(project.number, USERS) for project in projects)
    done = sum(target.count(project.number, USERS) for project in projects)
    if others := sorted({person.email for person in target.people()} - {person.email for person in source.people()}):
        raise StoreFault(f"the target already has the person {others[0]}: copy into an empty store")
    progress("copy", done, total)
    for spec in OF_INSTALLATION:
        for _ in _copy_rows(source, target, INSTALLATION, spec):
            pass
    for project in projects:
        if project.number in there:
            continue
        for spec in TABLES:
            for rows in _copy_rows(source, target, project.number, spec):
                if spec is USERS:
                    done += rows
                    progress("copy", done, total)
        target.finish_copy(project, source.next_cuid(project.number))
    return _verify(source, target, projects, total, progress)


def _copy_rows(source: Store, target: Store, project: int, spec: TableSpec) -> Iterator[int]:
    """Copy the rows of a table that are missing in the target. Yield how many each step copied."""
    for page in _pages(source, project, spec, target.last(project, spec)):
        target.load(project, spec, page)
        yield len(page)


def _verify(
    source: Store, target: Store, projects: list[Project], total: int, progress: Progress
) -> dict[str, dict[str, Sum]]:
    copies = {project.number: project for project in target.projects()}
    sums = {
        OF_NO_PROJECT: {
            spec.table: _same(source, target, INSTALLATION, spec, "the installation") for spec in OF_INSTALLATION
        }
    }
    done = 0
    for project in projects:
        if copies[project.number] != project or target.next_cuid(project.number) != source.next_cuid(project.number):
            raise StoreFault(f"project {project.id} is not the same in both; empty the target and copy again")
        sums[project.id] = {
            spec.table: _same(source, target, project.number, spec, f"project {project.id}") for spec in TABLES
        }
        done += sums[project.id][USERS.table].rows
        progress("verify", done, total)
    return sums


def _same(source: Store, target: Store, project: int, spec: TableSpec, name: str) -> Sum:
    """Return the checksum of a table in both stores. Raises StoreFault if they differ."""
    original, copy = (_sum(store, project, spec) for store in (source, target))
    if original != copy:
        raise StoreFault(
            f"{name}, {spec.table}: {original.rows} rows in the source, {copy.rows} in the target;"
            f" checksums {original.checksum[:12]} and {copy.checksum[:12]}; empty the target and copy again"
        )
    return copy


def _sum(store: Store, project: int, spec: TableSpec) -> Sum:
    checksum = hashlib.sha256()
    rows = 0
    for page in _pages(store, project, spec, None):
        rows += len(page)
        for row in page:
            checksum.update(_encoder.encode(row) + b"\n")
    return Sum(rows, checksum.hexdigest())


def _pages(store: Store, project: int, spec: TableSpec, after: Row | None) -> Iterator[list[Row]]:
    while page := store.rows(project, spec, after, PAGE, PAGE_BYTES):
        yield page
        after = page[-1][: spec.key]
