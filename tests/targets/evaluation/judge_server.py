"""A real HTTP server on loopback that answers as an OpenAI-compatible one, or as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Mapping[str, str], bytes]
Answers = Callable[[Mapping[str, Any], int], Reply]


@dataclass
class Seen:
    """What reached the server: bodies and headers, in order."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def saying(text: str, status: int = 200) -> Reply:
    """A chat completion with this text."""
    message = {"role": "assistant", "content": text}
    return status, {}, json.dumps({"choices": [{"message": message}]}).encode()


def verdict(question: Mapping[str, Any], score: object, **more: object) -> Reply:
    """A verdict on a question, with its token."""
    return saying(json.dumps({"token": question["token"], "reason": "r", "score": score, **more}))


@contextmanager
def judging(answers: Answers) -> Iterator[Seen]:
    """Serve until the end of the block; `answers` gets the question and how many came before."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.bodies.append({"path": self.path, **body})
            seen.headers.append({k.lower(): v for k, v in self.headers.items()})
            question = json.loads(body["messages"][-1]["content"])
            status, headers, content = answers(question, len(seen.bodies) - 1)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
