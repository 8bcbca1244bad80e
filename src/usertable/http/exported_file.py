"""The user table as a file that is complete before its first byte is sent, so that its length and digest are sent first.

A slow client then holds no snapshot of the store, and every client can tell a truncated file from a complete one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

from usertable.domain.history import moment_text
from usertable.files.options import Format
from usertable.http.answers import Header, Send
from usertable.store.protocol import Snapshot
from usertable.wire.native.queries import ExportQuery

EXPORTS_AT_ONCE = 2
"""Maximum number of exports that a server process writes at once, and writes or sends of one project; further ones wait."""
PIECE_BYTES = 2**20
"""Bytes that are read from the file and sent at a time."""
MEDIA_TYPES: Mapping[Format, str] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A complete export in a file without a name, and the values for its headers."""

    stream: IO[bytes]
    headers: list[Header]

    def close(self) -> None:
        """Remove the file."""
        self.stream.close()

    async def send(self, send: Send, headers: list[Header]) -> None:
        """Send the file as the answer, with these headers in addition to its own."""
        await send({"type": "http.response.start", "status": 200, "headers": [*self.headers, *headers]})
        while piece := await asyncio.to_thread(self.stream.read, PIECE_BYTES):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


def export_to_file(
    snapshot: Snapshot, query: ExportQuery, check: Callable[[], None], moment: int | None = None
) -> ExportedFile:
    """Write the users that a query selects to a file. Close it.

    Args:
        check: called periodically; an exception ends the export.
        moment: write the users as of then, ms since 1970 UTC; None for the snapshot itself.

    Raises:
        Refused: the query names something that is not declared, or the format needs a library that is not installed, or
            history does not reach back to the moment.
    """
    # These load Arrow, if it is installed.
    from usertable.files.as_of import TableAsOf
    from usertable.files.disk import spooled
    from usertable.files.export import export
    from usertable.files.export_options import export_options

    options = export_options(snapshot.project, query)
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as on_failure:
        past = None
        if moment is not None:
            past = stack.enter_context(contextlib.closing(TableAsOf(snapshot, moment, query, lambda changes: check())))
        stream = on_failure.enter_context(spooled(io.BytesIO()))
        done = export(past or snapshot, stream, options, lambda users: check())
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        digest = base64.b64encode(hashlib.file_digest(stream, "sha256").digest())  # type: ignore[arg-type]
        stream.seek(0)
        on_failure.pop_all()
    headers = [
        (b"content-type", MEDIA_TYPES[query.format].encode()),
        (b"content-length", b"%d" % size),
        (b"content-disposition", b'attachment; filename="users.%b"' % query.format.encode()),
        (b"repr-digest", b"sha-256=:%b:" % digest),
        (b"usertable-users", b"%d" % done.users),
    ]
    if done.as_text:
        headers.append((b"usertable-text-columns", ",".join(sorted(done.as_text)).encode()))
    if past is not None:
        headers.append((b"usertable-as-of", moment_text(past.moment).encode()))
        if past.not_kept:
            headers.append((b"usertable-columns-not-kept", ",".join(past.not_kept).encode()))
    return ExportedFile(stream, headers)
