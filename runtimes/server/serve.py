"""Runs the server: one bundle, one loopback address, until it is told to stop."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.session import load

if TYPE_CHECKING:
    import uvicorn

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where to listen and where statistics go; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    threads: int = 0
    spool: Path | None = None
    flush_seconds: float = 10.0
    ready_file: Path | None = None


def serve(bundle: Path, options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Serve `bundle` until SIGINT or SIGTERM; `announce` gets the URL once it listens.

    Raises UsageError where the address is not loopback or taken, BundleError and EngineError as
    `load` does.
    """
    try:
        import uvicorn

        from .app import make_app
    except ImportError as error:
        raise EngineError(
            "The server's packages are not installed",
            why=str(error),
            next="pip install 'edgeward[serve,onnx]'",
        ) from None
    with _listen(options) as listening, load(bundle, threads=options.threads) as session:
        if options.spool is not None:
            session.spool_to(options.spool, options.flush_seconds)
        config = uvicorn.Config(
            make_app(session), log_level="warning", access_log=False, lifespan="off"
        )
        port = listening.getsockname()[1]
        server = uvicorn.Server(config)
        with _stopped_by_signals(server):
            if options.ready_file is not None:
                _write_ready(options.ready_file, port)
            announce(f"http://{_bracketed(options.host)}:{port}/v1")
            server.run(sockets=[listening])


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more: statistics are still to be kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listen(options: ServeOptions) -> socket.socket:
    _refuse_open_address(options.host)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise UsageError(
            f"Cannot listen on {options.host}:{options.port}",
            why=str(error),
            next="edgeward serve BUNDLE --port 0",
        ) from None
    return listening


def _refuse_open_address(host: str) -> None:
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise UsageError(
            f"{host} is not a loopback address",
            why="the endpoint has neither TLS nor keys: whoever reaches it could use it",
            next="edgeward serve BUNDLE --host 127.0.0.1, behind a proxy that has them",
        )


def _write_ready(path: Path, port: int) -> None:
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(json.dumps({"port": port, "pid": os.getpid()}))
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"The ready file {path} cannot be written", why=str(error)) from None


def announce_on_stderr(url: str) -> None:
    """Tell people where the endpoint is."""
    sys.stderr.write(f"serving at {url}\n")
    sys.stderr.flush()
