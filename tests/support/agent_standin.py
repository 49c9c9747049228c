"""Stand-ins for the runtime's self-test and server; the bundle's text says how they behave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def text_of(folder: str) -> str:
    path = Path(folder) / "model.bin"
    return path.read_text() if path.exists() else ""


def selftest(folder: str) -> int:
    text = text_of(folder)
    if "gate-crash" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "gate-hang" in text:
        time.sleep(600)
    if "gate-leak" in text:
        hoard = []
        while True:
            hoard.append(bytearray(b"x" * 2**24))
            time.sleep(0.005)
    if "gate-flood" in text:
        sys.stdout.write("x" * 2**24)
        return 0
    if "gate-error" in text:
        sys.stderr.write("error: the engine said no\n")
        return 5
    if "gate-words" in text:
        sys.stdout.write("all fine!\n")
        return 0
    cosine = 0.4 if "gate-bad" in text else 0.999
    report = {
        "passed": "gate-bad" not in text,
        "checks": [{"metric": "cosine", "value": cosine, "bound": 0.98, "direction": "at-least"}],
        "cases": 3,
        "engine": {"name": "standin", "version": "1", "provider": "cpu", "machine": "x"},
        "load_ms": 1.0,
        "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
        "peak_memory_bytes": 1000,
    }
    written = json.dumps(report)
    if "gate-nan" in text:
        written = written.replace("0.999", "NaN")
    sys.stdout.write(written + "\n")
    return 3 if "gate-bad" in text else 0


def finalize(folder: str) -> int:
    text, engines = text_of(folder), Path(os.environ["EDGEWARD_ENGINES"])
    with (engines.parent / "builds.log").open("a") as log:
        log.write(f"{digest_of(folder)}\n")
    if "build-crash" in text:
        os.kill(os.getpid(), signal.SIGABRT)
    if "build-hang" in text:
        time.sleep(600)
    for word, status in {"build-refused": 1, "build-short": 3, "build-missing": 5}.items():
        if word in text:
            sys.stderr.write("error: the builder said no\n")
            return status
    room = engines.parent / "room"
    if "build-full" in text and not room.exists():
        sys.stderr.write("error: There is no room for the engine\n")
        return 4
    plan = engines / digest_of(folder) / ("e" * 64) / "model.plan"
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.write_text("built")
    return 0


def job(text: str) -> int:
    """Do what the job's arguments say; each beginning is a line of `jobs.log` beside the home."""
    order = json.loads(text)
    number, behave = order["job"]["id"], order["job"]["arguments"].get("behave", "")
    path = Path(order["home"]).parent / "jobs.log"
    is_first = not path.exists()
    with path.open("a") as log:
        log.write(f"{number} {os.getpid()}\n")
    if behave == "hang" or (behave == "hang-first" and is_first):
        time.sleep(20)
    if behave == "slow":
        time.sleep(0.5)
    if behave == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behave == "words":
        sys.stdout.write("all fine!\n")
        return 0
    if behave == "error":
        sys.stderr.write("error: it cannot even begin\n")
        return 1
    big = {"big": "x" * 60_000} if behave == "big" else {}
    result = {"serving": order["serving"], "target": order["target"], **big}
    sys.stdout.write(json.dumps({"state": "done", "problem": None, "result": result}))
    return 0


def digest_of(folder: str) -> str:
    return Path(folder).resolve().name


def serve(folder: str, options: dict[str, str]) -> int:
    text = text_of(folder)
    if "wont-start" in text:
        sys.stderr.write("cannot load\n")
        return 1

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say(200, {"status": "ok", "bundle": digest_of(folder)})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if "dies-later" in text:
                os._exit(7)
            if "wont-answer" in text:
                self.say(500, {"error": "no"})
            else:
                self.say(200, {"data": [{"embedding": [0.6, 0.8]}]})

        def say(self, status: int, document: dict[str, object]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer((options["--host"], int(options["--port"])), Handler)
    ready = Path(options["--ready-file"])
    new = ready.with_suffix(".new")
    new.write_text(json.dumps({"port": server.server_address[1], "pid": os.getpid()}))
    new.replace(ready)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()
    return 0


if __name__ == "__main__":
    verb, bundle, *rest = sys.argv[1:]
    if verb == "job":
        sys.exit(job(bundle))
    if verb == "selftest":
        sys.exit(selftest(bundle))
    if verb == "finalize":
        sys.exit(finalize(bundle))
    sys.exit(serve(bundle, dict(zip(rest[::2], rest[1::2], strict=True))))
