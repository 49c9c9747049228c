"""The controller as a device sees it: small documents by GET, each with its size bound."""

from __future__ import annotations

from edgeward.errors import TransferError
from edgeward.runtimes.bundle.read import MAX_MANIFEST_BYTES

from ..protocol.jobs import MAX_ANSWER_BYTES
from ..protocol.wire import MAX_MESSAGE_BYTES
from .fetch import Fetcher

TRUST_PATH = "/v1/trust"


class Controller:
    """Fetches documents; what they say is for the caller to check."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher

    def desired(self, device: str) -> bytes | None:
        """Return the sealed desired document, None where nothing is desired."""
        return self._get(f"/v1/devices/{device}/desired", MAX_MESSAGE_BYTES)

    def jobs(self, device: str) -> bytes | None:
        """Return the list of a device's jobs; None from a controller that knows none."""
        return self._get(f"/v1/devices/{device}/jobs", MAX_ANSWER_BYTES)

    def release(self, digest: str) -> bytes:
        """Return the sealed release that the digest names."""
        return self._must_get(f"/v1/releases/{digest}", MAX_MESSAGE_BYTES)

    def manifest(self, digest: str) -> bytes:
        """Return a bundle's manifest as it was written."""
        return self._must_get(f"/v1/manifests/{digest}", MAX_MANIFEST_BYTES)

    def trust(self) -> bytes:
        """Return the keys that the controller offers to pin."""
        return self._must_get(TRUST_PATH, MAX_MESSAGE_BYTES)

    def _must_get(self, path: str, limit: int) -> bytes:
        data = self._get(path, limit)
        if data is None:
            raise TransferError(f"The controller has no {path}", why="404")
        return data

    def _get(self, path: str, limit: int) -> bytes | None:
        with self.fetcher.open(path, {}) as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise TransferError(f"GET {path} was not answered", why=f"HTTP {response.status}")
            data = bytearray()
            for chunk in response.chunks:
                data += chunk
                if len(data) > limit:
                    raise TransferError(f"GET {path} answered too much", why=f"over {limit} bytes")
        if "text/html" in response.headers.get("content-type", ""):
            raise TransferError(
                f"GET {path} was answered with a web page", why="a captive portal is in between"
            )
        return bytes(data)
