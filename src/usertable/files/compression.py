"""Files that are compressed as a whole, with gzip or zstd."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO, Any

from usertable.domain.errors import ProblemKind, phrase, refusal
from usertable.domain.phrases import PhraseKind
from usertable.files.options import Compression
from usertable.zstandard import zstd

GZIP_LEVEL, ZSTD_LEVEL = 6, 3
"""The default levels of the commands `gzip` and `zstd`."""


class DecompressedFile(io.RawIOBase):
    """The content of a compressed file. Consecutive gzip members or zstd frames are one content.

    Raises:
        Refused: on reading, if the file has another compression or is damaged.
    """

    def __init__(self, file: io.RawIOBase, compression: Compression) -> None:
        super().__init__()
        self._compressed = file
        self._file: Any = gzip.GzipFile(fileobj=file) if compression == "gzip" else zstd.ZstdFile(file)
        self._name = compression

    @property
    def compressed_position(self) -> int:
        """Bytes of the compressed file read so far."""
        return self._compressed.tell() if self._compressed.seekable() else 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count: int = self._file.readinto(buffer)
            return count
        except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
            reason = phrase(PhraseKind.NOT_COMPRESSED, coding=self._name, detail=error)
            raise refusal(ProblemKind.IMPORT_FILE, reason=reason) from error

    def seekable(self) -> bool:
        return self._compressed.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def close(self) -> None:
        self._compressed.close()
        super().close()


@contextlib.contextmanager
def compressed(stream: IO[bytes], compression: Compression | None) -> Iterator[IO[bytes]]:
    """Return a stream that writes compressed into `stream`, which stays open."""
    if compression is None:
        yield stream
        return
    # Without a name and a time, the same content gives the same file.
    file: Any = (
        gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0)
        if compression == "gzip"
        else zstd.ZstdFile(stream, "w", level=ZSTD_LEVEL)
    )
    with contextlib.closing(file):
        yield file
