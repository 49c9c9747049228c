"""amqtt in a thread of this process: the broker of small fleets, on loopback only."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from edgeward.errors import FleetError, MissingError, UsageError

if TYPE_CHECKING:
    from amqtt.broker import Broker

log = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_DEVICES = 500
OWN_CONNECTIONS = 1
START_TIMEOUT_SECONDS = 15.0
ALTERNATIVE = (
    f"the embedded broker serves {MAX_DEVICES} devices;"
    " use --broker mosquitto, or a cluster such as EMQX with --broker mqtt://HOST:PORT"
)


class EmbeddedBroker:
    """Starts, stops and starts again on the same port; retained messages last until it stops."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, max_connections: int | None = None
    ) -> None:
        if host not in LOOPBACK:
            raise UsageError(
                f"The embedded broker does not listen on {host}",
                why="it takes anybody's word, so it stays on loopback until devices enrol with TLS",
                next="edgeward fleet up --broker mqtt://HOST:PORT",
            )
        self.host = host
        self.port = port
        self.max_connections = max_connections or MAX_DEVICES + OWN_CONNECTIONS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: Broker | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        """Listen; FleetError where the port is taken, MissingError without amqtt."""
        _quieten()
        self.port = free_port(self.host, self.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        try:
            self._broker = self._call(self._begin(), START_TIMEOUT_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close every connection and end the thread."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        try:
            if self._broker is not None:
                closing = asyncio.run_coroutine_threadsafe(self._broker.shutdown(), loop)
                closing.result(START_TIMEOUT_SECONDS)
        except Exception:
            log.exception("the broker did not stop cleanly")
        self._broker = None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(START_TIMEOUT_SECONDS)

    def _call(self, work: Any, timeout: float) -> Any:
        if self._loop is None:
            raise FleetError("The embedded broker is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def _run(self) -> None:
        loop = self._loop
        if loop is None:
            return
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            loop.close()

    async def _begin(self) -> Broker:
        from amqtt.errors import BrokerError

        bounded = _bounded_broker()
        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
        broker = bounded(config, self.max_connections)
        try:
            await broker.start()
        except BrokerError as error:
            raise port_taken(self.host, self.port, str(error)) from None
        return broker


def _bounded_broker() -> Any:
    """Return amqtt's broker with a bound on connections; imported late, for amqtt is heavy."""
    try:
        from .bounded import BoundedBroker
    except ImportError as error:
        raise MissingError(
            "The embedded broker needs amqtt",
            why=str(error),
            next="pip install 'edgeward[control]'",
        ) from None
    return BoundedBroker


def free_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise port_taken(host, port, error.strerror or str(error)) from None
        chosen = probe.getsockname()[1]
    return int(chosen)


def port_taken(host: str, port: int, why: str) -> FleetError:
    """Return the error for a port that cannot be listened on."""
    return FleetError(
        f"The broker cannot listen on {host}:{port}", why=why, next="--mqtt-port 0 takes a free one"
    )


def _quieten() -> None:
    for name in ("amqtt", "transitions", "websockets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
