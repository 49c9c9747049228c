"""`edgeward fleet up`: broker, controller and HTTP in one process, on one home folder."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeward.errors import FleetError, UsageError

from .home import FleetHome, HomeLock

log = logging.getLogger(__name__)
HTTP_PORT = 8040
LOOPBACK = ("127.0.0.1", "localhost")
SERVE_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator chooses; port 0 keeps the free one that was chosen the first time."""

    home: Path
    host: str = "127.0.0.1"
    http_port: int = HTTP_PORT
    mqtt_port: int = 0
    broker: str = "embedded"
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a fleet that is up can be reached."""

    http: str
    mqtt: str


class Broker(Protocol):
    """A broker that is started and stopped with the fleet."""

    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        ...

    def start(self) -> None:
        """Listen."""
        ...

    def stop(self) -> None:
        """Stop listening."""
        ...


@contextmanager
def fleet(options: Options) -> Iterator[Urls]:
    """Keep a fleet up for as long as the block runs.

    Raises ConflictError where one is up in this home already, FleetError for a port that is
    taken, MissingError for a broker that is not installed.
    """
    _refuse_open_network(options.host)
    home = FleetHome(options.home.absolute())
    home.prepare()
    with ExitStack() as stack:
        stack.callback(HomeLock(home).release)
        listening = _listen(options.host, options.http_port or home.remembered_port("http"))
        stack.callback(listening.close)
        port = listening.getsockname()[1]
        http = f"http://{options.host}:{port}"
        mqtt, mqtt_port = _broker(options, home, stack)
        home.remember_ports({"http": port, "mqtt": mqtt_port})
        app = _start_controller(options, home, mqtt, stack)
        _serve(app, listening, stack)
        home.write_status({"pid": os.getpid(), "http": http, "mqtt": mqtt})
        stack.callback(home.status_path.unlink, missing_ok=True)
        yield Urls(http, mqtt)


def run(options: Options, say: Callable[[str], None]) -> None:
    """Keep a fleet up until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with fleet(options) as urls:
        say(f"controller {urls.http}    broker {urls.mqtt}    home {options.home}")
        while not ended.wait(1.0):
            pass
    say("stopped")


def _broker(options: Options, home: FleetHome, stack: ExitStack) -> tuple[str, int]:
    if "://" in options.broker:
        from .link import broker_address

        return broker_address(options.broker).url, 0
    remembered = home.remembered_port("mqtt")
    broker = _own_broker(options.broker, home, options.host, options.mqtt_port or remembered)
    try:
        broker.start()
    except FleetError:
        if options.mqtt_port or not remembered:
            raise
        log.warning("port %d of the last time is taken: devices have to join again", remembered)
        broker = _own_broker(options.broker, home, options.host, 0)
        broker.start()
    stack.callback(broker.stop)
    return broker.url, broker.port


def _own_broker(kind: str, home: FleetHome, host: str, port: int) -> Broker:
    if kind == "embedded":
        from ..broker.embedded import EmbeddedBroker

        return EmbeddedBroker(host, port)
    if kind == "mosquitto":
        from ..broker.mosquitto import MosquittoBroker

        return MosquittoBroker(home.root / "mosquitto", host, port)
    raise UsageError(
        f"Unknown broker: {kind[:80]}", why="one of embedded, mosquitto, mqtt://HOST[:PORT]"
    )


def _start_controller(options: Options, home: FleetHome, mqtt: str, stack: ExitStack) -> Any:
    from .blobs import Blobs
    from .controller import Controller
    from .http import make_app
    from .http_service import Service
    from .intake import Intake
    from .link import MqttLink, broker_address
    from .store import SQLITE, open_store

    key, token = home.controller_key(), home.operator_token()
    store = open_store(f"{SQLITE}{home.database}")
    stack.callback(store.close)
    blobs = Blobs(home.blobs, options.quota_bytes)
    link = MqttLink(broker_address(mqtt), client_id=f"edgeward-controller-{key.public.id[:8]}")
    controller = Controller(store, key, link)
    controller.start()
    stack.callback(controller.stop)
    intake = Intake(store, blobs, home.manifests, home.trusted_release_keys)
    return make_app(Service(store, controller, blobs, intake, token, (key.public,), mqtt))


def _serve(app: Any, listening: socket.socket, stack: ExitStack) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=10,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="http", daemon=True
    )
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(SERVE_TIMEOUT_SECONDS)

    stack.callback(stop)
    waiting = threading.Event()
    for _ in range(int(SERVE_TIMEOUT_SECONDS / 0.01)):
        if server.started:
            return
        waiting.wait(0.01)
    raise FleetError("The HTTP server did not start")


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(512)
    except (OSError, OverflowError) as error:
        listening.close()
        raise FleetError(
            f"The controller cannot listen on {host}:{port}",
            why=getattr(error, "strerror", None) or str(error),
            next="edgeward fleet up --http-port 0 takes a free one",
        ) from None
    return listening


def _refuse_open_network(host: str) -> None:
    if host not in LOOPBACK:
        raise UsageError(
            f"The controller does not listen on {host}",
            why="TLS comes with mutual-TLS enrolment; until then it stays on loopback",
            next="edgeward fleet up --host 127.0.0.1",
        )
