"""The one seam to the controller's HTTP: a request goes out, a response streams in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeward.errors import TransferError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from urllib3.response import BaseHTTPResponse

CHUNK = 64 * 1024
CONNECT_SECONDS, READ_SECONDS = 4.0, 8.0


@dataclass(frozen=True, slots=True)
class Response:
    """A status, headers in lower case, and the body in chunks; nothing of it is checked yet."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Fetcher(Protocol):
    """Gets a path of the controller."""

    def open(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[Response]:
        """Send a GET; TransferError where there is no connection or it breaks while streaming."""
        ...


class HttpFetcher:
    """Fetches over HTTP with kept-alive connections; redirects are not followed."""

    def __init__(self, base: str) -> None:
        import urllib3

        self._base = base.rstrip("/")
        self._pool = urllib3.PoolManager(
            num_pools=2,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        )

    @contextmanager
    def open(self, path: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """Send a GET and give the response; what the caller leaves unread is thrown away."""
        from urllib3.exceptions import HTTPError

        url = self._base + path
        try:
            response = self._pool.request(
                "GET",
                url,
                headers={"Accept-Encoding": "identity", **headers},
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, OSError, ValueError) as error:
            raise TransferError(f"No connection to {self._base}", why=_words(error)) from None
        try:
            names = {name.lower(): value for name, value in response.headers.items()}
            yield Response(response.status, names, _chunks(response, url))
        finally:
            if response.closed:
                response.release_conn()
            else:
                response.close()


def _chunks(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        while chunk := response.read(CHUNK, decode_content=False):
            yield chunk
    except (HTTPError, OSError, ValueError) as error:
        raise TransferError(
            f"The connection broke while reading {url}", why=_words(error)
        ) from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
