"""Files that are compressed as a whole, with gzip or zstd."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO, Any

from usertable.domain.errors import ProblemKind, excerpt, refusal
from usertable.files.options import Compression
from usertable.wire.codings import zstd

GZIP_LEVEL, ZSTD_LEVEL = 6, 3
"""The levels of the commands `gzip` and `zstd`."""


class DecompressedFile(io.RawIOBase):
    """What is in a compressed file. Several gzip members or zstd frames, one after the other, are one content.

    Raises:
        Refused: when read: it is not compressed so, or damaged.
    """

    def __init__(self, file: io.RawIOBase, compression: Compression) -> None:
        super().__init__()
        self._compressed = file
        self._file: Any = gzip.GzipFile(fileobj=file) if compression == "gzip" else zstd.ZstdFile(file)
        self._name = compression

    @property
    def compressed_position(self) -> int:
        """Bytes of the compressed file that were read so far."""
        return self._compressed.tell() if self._compressed.seekable() else 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count: int = self._file.readinto(buffer)
            return count
        except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
            reason = f"it is named as if it were compressed with {self._name}, and is not, is damaged or is cut off"
            raise refusal(ProblemKind.IMPORT_FILE, reason=f"{reason}: {excerpt(str(error), 120)}") from error

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
    """What writes into a stream, compressed; the stream stays open."""
    if compression is None:
        yield stream
        return
    # Without a name and a time, the same content is the same file.
    file: Any = (
        gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0)
        if compression == "gzip"
        else zstd.ZstdFile(stream, "w", level=ZSTD_LEVEL)
    )
    with contextlib.closing(file):
        yield file
