"""Clients and operators that ask for the wrong thing: an answer in JSON, and the server goes on."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeward.errors import EdgewardError
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.server.app import MAX_BODY
from edgeward.runtimes.server.serve import ServeOptions, serve
from edgeward.runtimes.statistics.spool import Spool

HOST = "127.0.0.1"
CRLF = "\r\n"
SAMPLE = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\} (\S+)')


@contextmanager
def serving(bundle: Bundle, folder: Path, *options: str) -> Iterator[int]:
    """Run a server until the end of the block; gives its port and wants exit code 0."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "edgeward.runtimes.server", str(bundle.path)]
    command += ["--threads", "1", "--ready-file", str(ready), *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        end = time.monotonic() + 60
        while not ready.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        told = json.loads(ready.read_text())
        assert told["pid"] == process.pid
        assert [path.name for path in folder.glob("ready*")] == ["ready.json"]
        yield int(told["port"])
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def port(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server for all of them, which none may bring to a traceback."""
    folder = tmp_path_factory.mktemp("served")
    with serving(tiny_bundle, folder) as port:
        yield port
    assert "Traceback" not in (folder / "log").read_text()


def ask(port: int, path: str, body: object = None, method: str | None = None) -> Any:
    """Return status, headers and body of one request, whatever the status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  loopback
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def say(port: int, *parts: bytes, close_after: bool = False) -> bytes:
    """Send bytes as they are and return what comes back until the server closes."""
    with socket.create_connection((HOST, port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        if close_after:
            return b""
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def head(first: str, *headers: str) -> bytes:
    lines = [first, f"Host: {HOST}", "Connection: close", *headers, "", ""]
    return CRLF.join(lines).encode("latin-1")


def test_a_wrong_method_is_told_the_right_one(port: int) -> None:
    for path, method, allowed in [
        ("/v1/embeddings", "GET", {"POST"}),
        ("/v1/models", "DELETE", {"GET", "HEAD"}),
        ("/healthz", "POST", {"GET", "HEAD"}),
    ]:
        status, headers, body = ask(port, path, method=method)
        assert status == 405
        assert set(headers["Allow"].split(", ")) == allowed
        error = json.loads(body)["error"]
        assert error == {
            "message": f"Method Not Allowed: {method} {path}",
            "type": "invalid_request_error",
        }


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat/completions", "/%ff%fe", "/..%2f..%2fetc"])
def test_an_unknown_route_is_a_404_in_json(port: int, path: str) -> None:
    status, headers, body = ask(port, path)
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["error"]["message"].startswith("Not Found: GET /")


def test_a_head_request_has_no_body(port: int) -> None:
    status, headers, body = ask(port, "/healthz", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_a_body_in_chunks_is_bounded_too(port: int) -> None:
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    request = head("POST /v1/embeddings HTTP/1.1", "Transfer-Encoding: chunked")
    answer = say(port, request, *[chunk] * (MAX_BODY // 0x100000), b"2\r\n ")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert str(MAX_BODY).encode() in answer


def test_a_body_of_the_allowed_size_is_read(port: int) -> None:
    status, _, body = ask(
        port, "/v1/embeddings", {"input": ["gate"], "user": "x" * (MAX_BODY - 99)}
    )
    assert status == 200, body


@pytest.mark.parametrize("length", ["-1", "many", "1e3", "9" * 40])
def test_an_odd_length_is_refused(port: int, length: str) -> None:
    request = head("POST /v1/embeddings HTTP/1.1", f"Content-Length: {length}")
    assert re.match(rb"HTTP/1.1 4\d\d ", say(port, request))


def test_what_is_not_http_is_refused(port: int) -> None:
    assert say(port, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_client_that_leaves_harms_nobody(port: int) -> None:
    for _ in range(5):
        request = head("POST /v1/embeddings HTTP/1.1", "Content-Length: 1000")
        say(port, request, b'{"input": "ga', close_after=True)
    assert ask(port, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("dimensions", "status"), [(8, 200), (7, 400), (0, 400), (-8, 400), (10**30, 400), ("8", 400)]
)
def test_dimensions_are_the_models_own(port: int, dimensions: object, status: int) -> None:
    asked = {"input": "gate", "dimensions": dimensions}
    found, _, body = ask(port, "/v1/embeddings", asked)
    assert found == status
    assert status == 200 or "dimensions" in json.loads(body)["error"]["message"]


def test_many_clients_at_once_get_their_own_answers(port: int, tiny_bundle: Bundle) -> None:
    texts = ["gate", "where is gate b12", "the train", "leaves at noon", "", "unknown"]
    wanted = load(tiny_bundle, threads=1).embed(texts)
    wrong: list[object] = []

    def client(at: int) -> None:
        for _ in range(10):
            _, _, body = ask(port, "/v1/embeddings", {"input": [texts[at]]})
            found = json.loads(body)["data"][0]["embedding"]
            if not np.allclose(found, wanted[at], atol=1e-6):
                wrong.append((texts[at], found))

    clients = [threading.Thread(target=client, args=(at,)) for at in range(len(texts))]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert wrong == []


def samples(port: int) -> dict[str, float]:
    """Every sample of /metrics by name and labels, each line held against the text format."""
    status, headers, body = ask(port, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split(" ")[2])
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        assert name in typed or name.rpartition("_")[0] in typed
        key = f"{name} {labels}"
        assert key not in found
        found[key] = float(value)
    return found


def by_name(found: dict[str, float], name: str) -> float:
    return sum(value for key, value in found.items() if key.startswith(f"{name} "))


def test_metrics_count_what_was_asked(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle("odd", changes={"name": 'a "b" \\ c\nd'})
    with serving(bundle, tmp_path, "--spool", str(tmp_path / "spool")) as port:
        before = samples(port)
        assert by_name(before, "edgeward_requests_total") == 0
        for _ in range(3):
            assert ask(port, "/v1/embeddings", {"input": ["gate", "the train"]})[0] == 200
        ask(port, "/v1/embeddings", {"input": "gate", "prompt_name": "nope"})
        ask(port, "/v1/embeddings", {"input": 5})
        found = samples(port)
    assert by_name(found, "edgeward_requests_total") == 4
    assert by_name(found, "edgeward_items_total") == 6
    assert by_name(found, "edgeward_tokens_in_total") == 3 * (3 + 4)
    assert by_name(found, "edgeward_latency_seconds_count") == 3
    assert by_name(found, "edgeward_queue_seconds_count") == 3
    assert by_name(found, "edgeward_load_seconds") > 0
    assert by_name(found, "edgeward_memory_bytes") > 1e6
    (errors,) = (key for key in found if key.startswith("edgeward_errors_total"))
    assert 'model="a \\"b\\" \\\\ c\\nd"' in errors
    assert 'class="UsageError"' in errors
    assert sum(delta["requests"] for _, delta in Spool(tmp_path / "spool").peek()) == 4


def test_a_failure_that_nobody_foresaw_answers_in_json(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    with serving(make_bundle("nan", noise=float("nan")), tmp_path) as port:
        status, _, body = ask(port, "/v1/embeddings", {"input": "gate"})
        assert status == 500
        assert json.loads(body)["error"]["type"] == "server_error"
        assert ask(port, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"port": 70000}, 2, "Cannot listen on 127.0.0.1:70000"),
        ({"port": -1}, 2, "Cannot listen on"),
        ({"host": "127.0.0.1.example"}, 2, "not a loopback address"),
        ({"host": ""}, 2, "not a loopback address"),
        ({"threads": -1}, 2, "threads"),
        ({"spool": "spool", "flush_seconds": float("nan")}, 2, "flushed every"),
        ({"spool": "."}, 1, "cannot be used"),
        ({"spool": "no/such/folder"}, 1, "cannot be used"),
        ({"ready_file": "no/such/folder"}, 2, "no/such/folder cannot be written"),
    ],
)
def test_options_that_cannot_be_met_are_told_before_it_serves(
    tiny_bundle: Bundle, tmp_path: Path, options: dict[str, Any], code: int, words: str
) -> None:
    placed = {
        name: tmp_path / value if name in ("spool", "ready_file") else value
        for name, value in options.items()
    }
    with pytest.raises(EdgewardError, match=words) as caught:
        serve(tiny_bundle.path, ServeOptions(**placed), pytest.fail)
    assert caught.value.exit_code == code
