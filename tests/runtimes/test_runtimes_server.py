"""The local server as a process of its own, over real HTTP."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.statistics.spool import Spool

MODULE = [sys.executable, "-m", "edgeward.runtimes.server"]
EMBEDDINGS = "/v1/embeddings"


@dataclass
class Served:
    """A server that runs, and how to ask it."""

    process: subprocess.Popen[str]
    port: int
    spool: Path

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def post(self, document: Any) -> tuple[int, Any]:
        status, body = self.ask("POST", EMBEDDINGS, json.dumps(document))
        return status, json.loads(body)


def start(bundle: Bundle, folder: Path) -> Served:
    ready = folder / "ready.json"
    command = [*MODULE, str(bundle.path), "--port", "0", "--ready-file", str(ready)]
    command += ["--spool", str(folder / "spool"), "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return Served(process, json.loads(ready.read_text())["port"], folder / "spool")


@pytest.fixture(scope="module")
def served(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = start(tiny_bundle, tmp_path_factory.mktemp("served"))
    yield served
    served.process.terminate()
    assert served.process.wait(timeout=30) == 0


def test_embeddings_are_those_of_embed(served: Served, tiny_bundle: Bundle) -> None:
    texts = ["gate", "where is gate b12"]
    status, answer = served.post({"input": texts, "model": "tiny"})
    assert status == 200
    found = [row["embedding"] for row in answer["data"]]
    np.testing.assert_allclose(found, load(tiny_bundle, threads=1).embed(texts), atol=1e-6)
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert (answer["object"], answer["model"]) == ("list", "tiny")


def test_one_text_and_base64(served: Served) -> None:
    _, plain = served.post({"input": "gate"})
    _, packed = served.post({"input": "gate", "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), np.float32)
    np.testing.assert_allclose(decoded, plain["data"][0]["embedding"], rtol=1e-6)


def test_health_models_and_metrics(served: Served, tiny_bundle: Bundle) -> None:
    assert served.ask("GET", "/healthz")[0] == 200
    models = json.loads(served.ask("GET", "/v1/models")[1])
    assert models["data"][0]["id"] == "tiny"
    served.post({"input": ["gate"]})
    status, text = served.ask("GET", "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if line[0] != "#")
    requests = [float(v) for name, v in values.items() if name.startswith("edgeward_requests")]
    assert requests[0] >= 1
    assert any('quantile="0.95"' in name for name in values)
    assert all(tiny_bundle.digest[:12] in name for name in values)


@pytest.mark.parametrize(
    "document",
    [
        *({}, {"input": None}, {"input": 5}, {"input": []}, {"input": [5]}, {"input": [["a"]]}),
        *([], "text", None, {"input": "a", "encoding_format": "gif"}),
        {"input": "a", "dimensions": 3},
        {"input": "a", "prompt_name": "nope"},
        {"input": ["a"] * 3000},
        {"input": "\ud800"},
    ],
)
def test_a_body_that_makes_no_sense_is_a_400(served: Served, document: Any) -> None:
    status, answer = served.post(document)
    assert status == 400
    assert answer["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"input": NaN}'])
def test_a_body_that_is_not_json_is_a_400(served: Served, body: bytes) -> None:
    status, answer = served.ask("POST", EMBEDDINGS, body)
    assert status == 400
    assert json.loads(answer)["error"]["message"]


def test_a_huge_body_is_a_413(served: Served) -> None:
    headers = {"Content-Length": str(1 << 40)}
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.putrequest("POST", EMBEDDINGS)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_other_routes_and_methods_answer_in_json(served: Served) -> None:
    for method, path, expected in [("GET", "/nope", 404), ("GET", EMBEDDINGS, 405)]:
        status, body = served.ask(method, path)
        assert status == expected
        assert json.loads(body)["error"]["message"]
    assert served.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_keeps_its_statistics(
    tiny_bundle: Bundle, tmp_path: Path, number: int
) -> None:
    served = start(tiny_bundle, tmp_path)
    served.post({"input": ["gate"]})
    served.process.send_signal(number)
    _, said = served.process.communicate(timeout=30)
    assert served.process.returncode == 0
    assert "Traceback" not in said
    assert sum(delta["requests"] for _, delta in Spool(served.spool).peek()) == 1


def refused(bundle: Bundle, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, str(bundle.path), *options],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104
def test_it_serves_this_machine_alone(tiny_bundle: Bundle, host: str) -> None:
    done = refused(tiny_bundle, "--host", host, "--port", "0")
    assert done.returncode == 2
    assert "loopback" in done.stderr


def test_a_taken_port_is_told(tiny_bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = refused(tiny_bundle, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_missing_bundle_is_told(tiny_bundle: Bundle, tmp_path: Path) -> None:
    done = subprocess.run(
        [*MODULE, str(tmp_path / "nowhere")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: No bundle at")
