"""The operator's client: what the command line and scripts ask a controller through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from edgeward.errors import FleetError

from .home import FleetHome
from .problems import from_json

TIMEOUT = urllib3.Timeout(connect=5.0, read=120.0)
MAX_ANSWER_BYTES = 256 * 2**20


class Client:
    """One controller, by its URL and the operator's token; safe to use from several threads."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(timeout=TIMEOUT, retries=False)

    @classmethod
    def of_home(cls, home: Path) -> Client:
        """Return the client of the controller that is up in a fleet home on this machine."""
        fleet = FleetHome(home)
        return cls(str(fleet.status()["http"]), fleet.read_token())

    def status(self) -> dict[str, Any]:
        """Return the controller's own figures."""
        return self._object("GET", "/v1/status")

    def trust(self) -> dict[str, Any]:
        """Return what a device pins when it joins."""
        return self._object("GET", "/v1/trust")

    def devices(self) -> list[dict[str, Any]]:
        """Return all devices."""
        return self._list("GET", "/v1/devices")

    def device(self, device: str) -> dict[str, Any]:
        """Return one device with its whole report."""
        return self._object("GET", f"/v1/devices/{_part(device)}")

    def forget(self, device: str) -> dict[str, Any]:
        """Forget a device."""
        return self._object("DELETE", f"/v1/devices/{_part(device)}")

    def label(
        self, device: str, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Add and remove a device's labels; return the device."""
        body = {"add": list(add), "remove": list(remove)}
        return self._object("POST", f"/v1/devices/{_part(device)}/labels", body)

    def create_job(self, device: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a device for a job; the fields are those of `JobRequest`."""
        return self._object("POST", f"/v1/devices/{_part(device)}/jobs", request)

    def jobs(self, device: str | None = None) -> list[dict[str, Any]]:
        """Return the jobs of all devices, or of one, the oldest first."""
        return self._list("GET", "/v1/jobs" + (f"?device={_part(device)}" if device else ""))

    def job(self, job: str) -> dict[str, Any]:
        """Return one job with what came of it."""
        return self._object("GET", f"/v1/jobs/{_part(job)}")

    def stats(self, by: str = "device,bundle", seconds: float = 86_400.0) -> list[dict[str, Any]]:
        """Return figures of the last `seconds`, by device, bundle or both."""
        return self._list("GET", f"/v1/stats?by={_part(by)}&seconds={seconds}")

    def events(self) -> list[dict[str, Any]]:
        """Return the latest lines of all timelines."""
        return self._list("GET", "/v1/events")

    def releases(self) -> list[dict[str, Any]]:
        """Return all releases."""
        return self._list("GET", "/v1/releases")

    def rollouts(self) -> list[dict[str, Any]]:
        """Return all rollouts, oldest first."""
        return self._list("GET", "/v1/rollouts")

    def rollout(self, rollout: str) -> dict[str, Any]:
        """Return one rollout with its devices and its timeline."""
        return self._object("GET", f"/v1/rollouts/{_part(rollout)}")

    def create_rollout(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Roll a release out; the fields are those of `RolloutRequest`."""
        return self._object("POST", "/v1/rollouts", request)

    def halt(self, rollout: str, reason: str = "halted by the operator") -> dict[str, Any]:
        """Halt a rollout."""
        return self._object("POST", f"/v1/rollouts/{_part(rollout)}/halt", {"reason": reason})

    def resume(self, rollout: str, retry_failed: bool = False) -> dict[str, Any]:
        """Resume a halted rollout."""
        body = {"retry_failed": retry_failed}
        return self._object("POST", f"/v1/rollouts/{_part(rollout)}/resume", body)

    def has_blob(self, digest: str) -> bool:
        """Whether the controller has a file."""
        response = self._send("HEAD", f"/v1/blobs/{_part(digest)}", None, {})
        return response.status == 200

    def put_blob(self, digest: str, path: Path) -> None:
        """Send a file whose sha256 is `digest`."""
        with path.open("rb") as file:
            headers = {"content-length": str(path.stat().st_size)}
            self._checked(self._send("PUT", f"/v1/blobs/{_part(digest)}", file, headers))

    def put_manifest(self, digest: str, data: bytes) -> None:
        """Send a bundle's manifest as its bytes are."""
        self._checked(self._send("PUT", f"/v1/manifests/{_part(digest)}", data, {}))

    def post_release(self, envelope: dict[str, Any]) -> dict[str, Any]:
        """Send a signed release."""
        return self._object("POST", "/v1/releases", envelope)

    def _object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._json(method, path, body)
        if not isinstance(answer, dict):
            raise FleetError(f"The controller's answer to {path} is not an object")
        return answer

    def _list(self, method: str, path: str) -> list[dict[str, Any]]:
        answer = self._json(method, path, None)
        if not isinstance(answer, list):
            raise FleetError(f"The controller's answer to {path} is not a list")
        return answer

    def _json(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        return self._checked(self._send(method, path, data, {"content-type": "application/json"}))

    def _checked(self, response: urllib3.BaseHTTPResponse) -> Any:
        try:
            answer = json.loads(response.data[:MAX_ANSWER_BYTES])
        except ValueError:
            answer = None
        if response.status >= 400:
            raise from_json(answer, response.status)
        return answer

    def _send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                method,
                self.url + path,
                body=body,
                headers={**self._headers, **headers},
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise FleetError(
                f"No controller answers at {self.url}",
                why=str(error)[:300],
                next="edgeward fleet up --home FLEET_HOME",
            ) from None


def _part(text: str) -> str:
    return quote(text, safe="")
