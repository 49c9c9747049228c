"""The fleet home: one folder with all that a controller keeps, and the lock on it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import FleetError, TrustError

from ..trust.keys import PRIVATE_NAME, PublicKey, SigningKey, generate, load, public_key
from .problems import ConflictError, NotThereError

_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,200}")


@dataclass(frozen=True, slots=True)
class FleetHome:
    """Where things lie in a fleet home."""

    root: Path

    @property
    def status_path(self) -> Path:
        """The URLs and the process id while the controller is up."""
        return self.root / "fleet.json"

    @property
    def database(self) -> Path:
        """The registry."""
        return self.root / "controller.sqlite"

    @property
    def blobs(self) -> Path:
        """Files by digest."""
        return self.root / "blobs"

    @property
    def manifests(self) -> Path:
        """Bundles' manifests by the bundle's digest."""
        return self.root / "manifests"

    @property
    def release_keys(self) -> Path:
        """Public keys whose releases are accepted."""
        return self.root / "trust" / "release"

    @property
    def token_path(self) -> Path:
        """The operator's bearer token."""
        return self.root / "operator.token"

    def prepare(self) -> None:
        """Make the folders; FleetError where that cannot be done."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.blobs, self.manifests, self.release_keys):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FleetError(
                f"The fleet home {self.root} cannot be made", why=error.strerror or str(error)
            ) from None

    def controller_key(self) -> SigningKey:
        """Return the key that desired documents are signed with, made on first use."""
        folder = self.root / "keys" / "controller"
        return load(folder) if (folder / PRIVATE_NAME).exists() else generate(folder)

    def operator_token(self) -> str:
        """Return the token, made on first use with mode 600."""
        if not self.token_path.exists():
            write_private(self.token_path, secrets.token_urlsafe(32) + "\n")
        return self.read_token()

    def read_token(self) -> str:
        """Return the token; TrustError where there is none to read."""
        try:
            token = self.token_path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise TrustError(
                f"No operator token in {self.root}",
                why=getattr(error, "strerror", None) or str(error),
                next=f"edgeward fleet up --home {self.root}",
            ) from None
        if not _TOKEN.fullmatch(token):
            raise TrustError(
                f"{self.token_path} is not a token", next=f"rm {self.token_path}, then start again"
            )
        return token

    def trusted_release_keys(self) -> list[PublicKey]:
        """Return the keys whose releases are accepted, as they are on disk now."""
        paths = sorted(self.release_keys.glob("*.hex"))
        return [public_key(path.read_text(encoding="utf-8")) for path in paths]

    def trust_release_key(self, key: PublicKey) -> Path:
        """Accept releases signed by `key` from now on."""
        self.release_keys.mkdir(parents=True, exist_ok=True)
        path = self.release_keys / f"{key.id[:16]}.hex"
        _write(path, key.hex + "\n")
        return path

    def status(self) -> dict[str, Any]:
        """Return what `fleet.json` says; NotThereError where no controller has started here."""
        try:
            document = json.loads(self.status_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotThereError(
                f"No controller is up in {self.root}", next=f"edgeward fleet up --home {self.root}"
            ) from None
        except (OSError, ValueError) as error:
            raise FleetError(f"{self.status_path} cannot be read", why=str(error)) from None
        if not isinstance(document, dict) or not isinstance(document.get("http"), str):
            raise FleetError(f"{self.status_path} names no controller")
        return document

    def write_status(self, document: dict[str, Any]) -> None:
        """Say that the controller is up and where."""
        _write(self.status_path, json.dumps(document, indent=1) + "\n")

    def remembered_port(self, name: str) -> int:
        """Return the free port that was chosen last time, 0 where none was."""
        try:
            port = json.loads((self.root / "ports.json").read_text(encoding="utf-8"))[name]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return port if isinstance(port, int) and 0 < port < 65_536 else 0

    def remember_ports(self, ports: dict[str, int]) -> None:
        """Keep the chosen ports, so that devices find the same ones after a restart."""
        _write(self.root / "ports.json", json.dumps(ports) + "\n")


class HomeLock:
    """Held while a controller is up; the kernel lets go of it when the process dies."""

    def __init__(self, home: FleetHome) -> None:
        path = home.root / "lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise ConflictError(
                f"A controller is up already in {home.root}",
                why="two controllers on one home would contradict each other",
                next=f"edgeward fleet status --home {home.root}",
            ) from None

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)


def write_private(path: Path, text: str) -> None:
    """Write a secret that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
