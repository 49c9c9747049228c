"""A device's home folder: where everything lies, and who may work in it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import FleetError
from edgeward.runtimes.finalize.place import VARIABLE as ENGINES_VARIABLE


@dataclass(frozen=True, slots=True)
class Home:
    """The paths under one folder."""

    root: Path

    @property
    def config(self) -> Path:
        """Who the device is and whom it talks to."""
        return self.root / "agent.json"

    @property
    def trust(self) -> Path:
        """The keys that it pinned."""
        return self.root / "trust.json"

    @property
    def journal(self) -> Path:
        """All that it knows."""
        return self.root / "journal"

    @property
    def blobs(self) -> Path:
        """Files by their sha256."""
        return self.root / "blobs"

    @property
    def bundles(self) -> Path:
        """Bundles by their digest."""
        return self.root / "bundles"

    @property
    def engines(self) -> Path:
        """What was built on this device, by the bundles' digests."""
        return self.root / "engines"

    @property
    def environment(self) -> dict[str, str]:
        """What the runtime's children run in: they find the engines here."""
        return {**os.environ, ENGINES_VARIABLE: str(self.engines)}

    @property
    def active(self) -> Path:
        """The link that names the bundle in use."""
        return self.root / "active"

    @property
    def spool(self) -> Path:
        """The statistics that wait to be sent."""
        return self.root / "stats.sqlite"

    @property
    def jobs(self) -> Path:
        """The jobs that it was given, and the reports that wait to be sent."""
        return self.root / "jobs"

    @property
    def status(self) -> Path:
        """Where the agent stands, for `status` and `health`."""
        return self.root / "status.json"

    @property
    def server(self) -> Path:
        """What the server child wrote when it was ready."""
        return self.root / "server.json"

    @property
    def server_log(self) -> Path:
        """What the server child said."""
        return self.root / "server.log"

    def prepare(self) -> None:
        """Make the folders; FleetError where the home cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.blobs, self.blobs / "partial", self.bundles):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from None


class HomeLock:
    """One agent per home; the kernel lets go when the process ends, however it ends."""

    def __init__(self, home: Home) -> None:
        path = home.root / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(home.root, error) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise FleetError(
                f"Another agent works in {home.root}",
                why="one home is one device: two agents would undo each other's work",
                next=f"edgeward agent status --home {home.root}",
            ) from None

    def release(self) -> None:
        """Let another agent in."""
        os.close(self._descriptor)


def unwritable(path: Path, error: OSError) -> FleetError:
    """Return the error of a home that cannot be written."""
    return FleetError(
        f"The agent's home {path} cannot be written",
        why=error.strerror or str(error),
        next=f"df -h {path}; ls -ld {path}",
    )
