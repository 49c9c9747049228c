"""A mosquitto of our own: a child process with its configuration below the fleet home."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from edgeward.errors import FleetError, MissingError

from .embedded import LOOPBACK, free_port

log = logging.getLogger(__name__)
RESTART_SECONDS = 0.5
START_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 10.0
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_CONFIG = """\
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
persistent_client_expiration 14d
max_queued_messages 1000
max_queued_bytes 4194304
max_packet_size 131072
message_size_limit 65536
log_dest file {folder}/mosquitto.log
log_type error
log_type warning
"""


def find_mosquitto() -> str:
    """Return the binary; MissingError with the command that installs it."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    binary = shutil.which("mosquitto", path=path)
    if binary is None:
        raise MissingError(
            "mosquitto is not installed",
            why="--broker mosquitto runs the real one",
            next="sudo apt-get install -y mosquitto    (macOS: brew install mosquitto)",
        )
    return binary


class MosquittoBroker:
    """Starts mosquitto on loopback and stops it; retained messages outlive both."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        if host not in LOOPBACK:
            raise FleetError(
                f"mosquitto does not listen on {host}",
                why="it takes anybody's word, so it stays on loopback until devices enrol with TLS",
            )
        self.folder = folder.absolute()
        self.host = host
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, after ending one that a crash of ours left behind; keep it running."""
        binary = find_mosquitto()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_left_over()
        self.port = free_port(self.host, self.port)
        text = _CONFIG.format(host=self.host, port=self.port, folder=self.folder)
        if os.geteuid() == 0:
            text += "user root\n"
        self._config.write_text(text, encoding="utf-8")
        self._stopping.clear()
        process = self._spawn(binary)
        self._wait_until_it_listens()
        keeper = threading.Thread(
            target=self._keep, args=(binary, process), name="mosquitto", daemon=True
        )
        keeper.start()

    def stop(self) -> None:
        """End it and wait."""
        self._stopping.set()
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._pid_file.unlink(missing_ok=True)

    def _spawn(self, binary: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [binary, "-c", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process = process
        self._pid_file.write_text(str(process.pid), encoding="utf-8")
        return process

    def _keep(self, binary: str, process: subprocess.Popen[bytes]) -> None:
        """Start it again whenever it dies; clients come back to the same port by themselves."""
        while True:
            code = process.wait()
            if self._stopping.wait(RESTART_SECONDS):
                return
            log.error("mosquitto ended with %d, it is started again", code)
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._spawn(binary)

    @property
    def _config(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "mosquitto.pid"

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            time.sleep(0.02)
        self.stop()
        raise FleetError("mosquitto did not start", why=self._last_words())

    def _last_words(self) -> str:
        try:
            lines = (self.folder / "mosquitto.log").read_text(errors="replace").splitlines()
        except OSError:
            return f"its configuration is {self._config}"
        return lines[-1][-300:] if lines else f"its configuration is {self._config}"

    def _end_left_over(self) -> None:
        """End the process of the pid file, if it is a mosquitto with this very configuration."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text(encoding="utf-8"))
            listed = subprocess.run(
                ["ps", "-ww", "-p", str(pid), "-o", "args="],
                capture_output=True,
                text=True,
                check=False,
            )
            if str(self._config) not in listed.stdout:
                return
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)
