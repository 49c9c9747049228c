"""The model's server as a child process: started, watched, asked, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from edgeward.runtimes.child import die_with, kill_group

from .clock import Clock
from .home import Home

STOP_SECONDS = 10.0
ASK_SECONDS = 5.0
PROBE_SECONDS = 30.0
FLUSH_SECONDS = 2
MAX_LOG_BYTES = 4 * 2**20
MAX_ANSWER = 2**16


@dataclass(frozen=True, slots=True)
class Commands:
    """The runtime's commands, each as the beginning of an argument list."""

    selftest: Sequence[str]
    serve: Sequence[str]
    finalize: Sequence[str]
    job: Sequence[str]


class ModelServer(Protocol):
    """What serves the active bundle."""

    @property
    def digest(self) -> str | None:
        """The bundle that it was started with, None where it was not."""
        ...

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        ...

    @property
    def port(self) -> int | None:
        """Where it listens, None while it is not ready."""
        ...

    def start(self, folder: Path, digest: str) -> None:
        """Start serving, in place of what was served; OSError where no process can be made."""
        ...

    def stop(self) -> None:
        """End it."""
        ...

    def health(self) -> str | None:
        """Return the digest that it says it serves, None where it does not answer."""
        ...

    def probe(self, text: str) -> str | None:
        """Send a real request; return None where it was answered, else what went wrong."""
        ...

    def words(self) -> str:
        """Return the last lines that it wrote."""
        ...


class ServerChild:
    """A ModelServer in a process of its own."""

    def __init__(
        self, command: Sequence[str], home: Home, clock: Clock, host: str, port: int
    ) -> None:
        self._command = list(command)
        self._home = home
        self._clock = clock
        self._host = host
        self._wanted_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._digest: str | None = None
        self._port: int | None = None

    @property
    def digest(self) -> str | None:
        """The bundle that it was started with."""
        return self._digest

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def port(self) -> int | None:
        """The port from the ready file, believed only where this child wrote it."""
        if self._port is None and self._process is not None and self.alive:
            self._port = read_port(self._home.server, self._process.pid)
        return self._port

    def start(self, folder: Path, digest: str) -> None:
        """Start the child on a bundle's real folder, so that a later rename changes nothing."""
        self.stop()
        self._home.server.unlink(missing_ok=True)
        arguments = ["--host", self._host, "--port", str(self._wanted_port)]
        arguments += ["--spool", str(self._home.spool), "--flush-seconds", str(FLUSH_SECONDS)]
        arguments += ["--ready-file", str(self._home.server)]
        with self._log() as log:
            self._process = subprocess.Popen(
                [*self._command, str(folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid()),
                env=self._home.environment,
            )
        self._digest = digest

    def stop(self) -> None:
        """Ask it to end, then make it."""
        process, self._process = self._process, None
        self._digest = self._port = None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        kill_group(process)

    def health(self) -> str | None:
        """Ask /healthz."""
        return None if self.port is None else ask_health(self._host, self.port)

    def probe(self, text: str) -> str | None:
        """Send one embeddings request and look at the vector that comes back."""
        if self.port is None:
            return "it is not ready"
        return ask_embedding(self._host, self.port, text)

    def words(self) -> str:
        """Return the end of its log."""
        try:
            with self._home.server_log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1500))
                return file.read(1500).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def _log(self) -> IO[bytes]:
        path = self._home.server_log
        small = not path.exists() or path.stat().st_size < MAX_LOG_BYTES
        try:
            return path.open("ab" if small else "wb")
        except OSError:
            return Path(os.devnull).open("wb")


def read_port(path: Path, pid: int) -> int | None:
    """Return the port of a ready file that process `pid` wrote."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(4096))
        port, writer = document["port"], document["pid"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    right = isinstance(port, int) and 0 < port < 65_536 and writer == pid
    return port if right else None


def ask_health(host: str, port: int) -> str | None:
    """Return the digest that a server's /healthz names."""
    answer = _ask(host, port, "GET", "/healthz", None, ASK_SECONDS)
    if isinstance(answer, dict) and answer.get("status") == "ok":
        return str(answer.get("bundle"))
    return None


def ask_embedding(host: str, port: int, text: str) -> str | None:
    """Return None where a text's vector came back and is one, else what went wrong."""
    answer = _ask(host, port, "POST", "/v1/embeddings", {"input": text}, PROBE_SECONDS)
    if isinstance(answer, str):
        return answer
    try:
        vector = answer["data"][0]["embedding"]
        total = sum(float(value) * float(value) for value in vector)
    except (KeyError, IndexError, TypeError, ValueError):
        return "the answer is no embedding"
    if not vector or not 0.0 < total < float("inf"):
        return "the embedding is empty, zero or not finite"
    return None


def _ask(
    host: str, port: int, method: str, path: str, body: object, seconds: float
) -> dict[str, Any] | str:
    import urllib3

    pool = urllib3.HTTPConnectionPool(host, port, timeout=seconds, retries=False)
    try:
        response = pool.request(method, path, json=body, preload_content=False)
        data = response.read(16 * MAX_ANSWER)
        if response.status != 200:
            return f"HTTP {response.status}: {data[:200]!r}"
        document = json.loads(data)
    except (urllib3.exceptions.HTTPError, OSError, ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        pool.close()
    return document if isinstance(document, dict) else "the answer is no JSON object"
