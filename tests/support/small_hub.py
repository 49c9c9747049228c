"""A model hub on this machine, as far as `huggingface_hub` asks it for files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123abcd" * 5
Answer = tuple[int, bytes, dict[str, str]]


class SmallHub:
    """Serves one folder as every repository, or the same nonsense to every question."""

    def __init__(self, folder: Path, nonsense: tuple[int, bytes] | None) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self._folder, self._nonsense = folder, nonsense

    def answer(self, path: str, is_get: bool) -> Answer:
        """Return status, body and headers for a path."""
        self.asked.append(path)
        if self._nonsense:
            return (*self._nonsense, {})
        if path.startswith("/api/models/"):
            return 200, json.dumps(self._listing(path)).encode(), {}
        file = self._folder / path.rpartition("/")[2]
        if "/resolve/" not in path or not file.is_file():
            return 404, b"", {}
        if is_get:
            self.fetched.append(file.name)
        data = file.read_bytes()
        tag = hashlib.sha256(data).hexdigest()
        return 200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}

    def _listing(self, path: str) -> object:
        files = sorted(p for p in self._folder.iterdir() if p.is_file())
        if "/tree/" in path:
            sizes = [(p.name, p.stat().st_size) for p in files]
            return [{"type": "file", "path": n, "oid": "0" * 40, "size": s} for n, s in sizes]
        return {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": p.name} for p in files]}


@contextmanager
def small_hub(folder: Path, nonsense: tuple[int, bytes] | None = None) -> Iterator[SmallHub]:
    """Serve until the block ends; `HF_ENDPOINT` is the hub's `url`."""
    hub = SmallHub(folder, nonsense)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(is_get=True)

        def do_HEAD(self) -> None:
            self._send(is_get=False)

        def log_message(self, *_: object) -> None:
            pass

        def _send(self, *, is_get: bool) -> None:
            status, body, headers = hub.answer(self.path, is_get)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if is_get:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
