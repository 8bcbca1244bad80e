"""How far an import through the API came, in a file beside the one that is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import msgspec

from usertable.domain.errors import ProblemKind, refusal
from usertable.files.disk import hold, is_named, lock, whole_file
from usertable.files.import_job import ImportState


@dataclass(frozen=True, slots=True)
class Position:
    """How far an import through the API came, and what may have been sent beyond that."""

    url: str
    project: str
    key: str
    """What the rows' keys begin with."""
    state: ImportState
    sent: int = 0
    """Rows up to this one may have been sent; more than `state.rows` only while an answer is awaited."""
    since: int = 0
    """When the first of those was sent; milliseconds since 1970 UTC."""
    format: Literal[1] = 1


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Position)


class PositionFile:
    """A position on the disk: replaced whole, flushed, and from reading to closing held by one process at a time.

    Raises:
        Refused: it cannot be written, another process holds it, or it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: IO[bytes] | None = None

    def read(self) -> Position | None:
        """Hold the file from now on, and tell what is there; None if there is nothing."""
        self.close()
        try:
            # A file that is replaced would take the place of a device, too.
            if self._path.exists() and not self._path.is_file():
                raise self._refuse("is no regular file; name another with --state")
            stream = self._held = hold(self._path)
        except OSError as error:
            raise self._refuse(f"cannot be written: {error.strerror}; name another with --state") from error
        if stream is None:
            raise self._refuse("is in use by another process")
        content = stream.read()
        try:
            return _decoder.decode(content) if content else None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._refuse("is none, or damaged; move it away, or name another with --state") from error

    def write(self, position: Position) -> None:
        """Put it there; it is durable when this returns."""
        with whole_file(self._path) as stream:
            stream.write(_encoder.encode(position))
            # Held before it gets its name, and the one before until then, so that it is held all the time.
            held = os.fdopen(os.dup(stream.fileno()), "r+b")
            if not lock(held):
                raise self._refuse("is in use by another process")
        before, self._held = self._held, held
        if before:
            before.close()

    def close(self) -> None:
        """Let go of it; one that was never written goes away."""
        if self._held:
            if not os.fstat(self._held.fileno()).st_size and is_named(self._held, self._path):
                self._path.unlink()
            self._held.close()
            self._held = None

    def _refuse(self, reason: str) -> Exception:
        return refusal(ProblemKind.IMPORT_FILE, reason=f"the file of the import's position, {self._path}, {reason}")
