"""Read a part of a file: here or behind HTTP, the one place where the planner touches either."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edgeward.errors import SourceError

TIMEOUT_S = 10.0
PIECE = 1 << 18
MAX_JSON = 16 * 2**20
_SCHEMES = ("http", "https")


class AbsentError(SourceError):
    """There is no such file: another may do."""


class UnreachableError(SourceError):
    """The server is not there, or does not let this machine in: a copy may do."""


class Blob(Protocol):
    """A file of which parts are read. `name` stands in errors, `taken` counts the bytes read."""

    name: str
    taken: int

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start`, fewer at the end; SourceError on failure."""
        ...


class LocalBlob:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self.name, self.taken, self._path = path.name, 0, path

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start`."""
        try:
            if not self._path.is_file():
                raise AbsentError(f"{self._path} is not a file")
            with self._path.open("rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read", why=error.strerror or "") from error
        self.taken += len(data)
        return data


class RemoteBlob:
    """A file behind HTTP, read by ranges (RFC 9110, section 14)."""

    def __init__(self, url: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in _SCHEMES:
            raise SourceError(f"{url[:200]!a} is no http or https address")
        self.name, self.taken, self._url = url, 0, url

    def read(self, start: int, size: int) -> bytes:
        """Return at most `size` bytes from `start`; a server without ranges is refused."""
        wanted = {"Range": f"bytes={start}-{start + size - 1}", "User-Agent": "edgeward"}
        request = urllib.request.Request(self._url, headers=wanted)  # noqa: S310 - checked above
        with _words(self._url), urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT and start > 0:
                raise SourceError(f"{self._url} does not answer with ranges")
            data: bytes = answer.read(size)
        self.taken += len(data)
        return data


def whole(blob: Blob) -> bytes:
    """Return a small file whole; SourceError where it is larger than 16 MiB."""
    data = blob.read(0, MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise SourceError(f"{blob.name} is larger than {MAX_JSON // 2**20} MiB")
    return data


def endpoint() -> str:
    """Return the hub's address, by the name that its own client reads it from."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@contextlib.contextmanager
def _words(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        gated = error.code in (401, 403)
        absent = AbsentError if error.code == http.HTTPStatus.NOT_FOUND else SourceError
        kind = UnreachableError if gated else absent
        raise kind(
            f"{url} answers {error.code} {error.reason}",
            why="the repository is private, gated or not there" if gated else "",
            next="hf download REPOSITORY, then the same again" if gated else "",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{url} cannot be reached", why=str(error)[:200]) from None
