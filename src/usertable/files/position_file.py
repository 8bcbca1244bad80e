"""The progress of an import through the API, in a file next to the imported one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import msgspec

from usertable.domain.errors import ProblemKind, phrase, refusal
from usertable.domain.phrases import Phrase, PhraseKind
from usertable.files.disk import hold, is_named, lock, whole_file
from usertable.files.import_job import ImportState


@dataclass(frozen=True, slots=True)
class Position:
    """The progress of an import through the API, and the rows beyond that which may have been sent."""

    url: str
    project: str
    key: str
    """Prefix of the rows' keys."""
    state: ImportState
    sent: int = 0
    """Rows up to this one may have been sent. Higher than `state.rows` only while an answer is awaited."""
    since: int = 0
    """When the first of those was sent, in milliseconds since 1970 UTC."""
    format: Literal[1] = 1


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Position)


class PositionFile:
    """A position on disk: replaced atomically, synced, and locked by one process at a time from reading to closing.

    Raises:
        Refused: it cannot be written, another process has locked it, or it has other contents.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: IO[bytes] | None = None

    def read(self) -> Position | None:
        """Lock the file and return its position; None if it is empty."""
        self.close()
        try:
            # Otherwise a device would be replaced by a file, too.
            if self._path.exists() and not self._path.is_file():
                raise self._refuse(phrase(PhraseKind.STATE_NOT_REGULAR))
            stream = self._held = hold(self._path)
        except OSError as error:
            raise self._refuse(phrase(PhraseKind.STATE_UNWRITABLE, detail=error.strerror)) from error
        if stream is None:
            raise self._refuse(phrase(PhraseKind.STATE_IN_USE))
        content = stream.read()
        try:
            return _decoder.decode(content) if content else None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._refuse(phrase(PhraseKind.STATE_DAMAGED)) from error

    def write(self, position: Position) -> None:
        """Write the position; durable when this returns."""
        with whole_file(self._path) as stream:
            stream.write(_encoder.encode(position))
            # Locked before it gets its name, while the old file is still locked, so that there is no gap.
            held = os.fdopen(os.dup(stream.fileno()), "r+b")
            if not lock(held):
                raise self._refuse(phrase(PhraseKind.STATE_IN_USE))
        before, self._held = self._held, held
        if before:
            before.close()

    def close(self) -> None:
        """Release the file. One that was never written is removed."""
        if self._held:
            if not os.fstat(self._held.fileno()).st_size and is_named(self._held, self._path):
                self._path.unlink()
            self._held.close()
            self._held = None

    def _refuse(self, reason: Phrase) -> Exception:
        about = phrase(PhraseKind.STATE_FILE, path=str(self._path), reason=reason)
        return refusal(ProblemKind.IMPORT_FILE, reason=about)
