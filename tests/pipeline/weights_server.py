"""A real HTTP server on loopback that serves files with Range and validators, and misbehaves on request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What the server holds, how it treats the next requests, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)  # ETag by path; none = no validator
    cuts: list[int] = field(default_factory=list)  # each of the next answers ends after so many bytes
    statuses: list[int] = field(default_factory=list)  # each of the next answers has this status and nothing else
    headers: dict[str, str] = field(default_factory=dict)  # of the redirect that the hub answers with
    silent: bool = False  # never answers
    ranges: bool = True  # whether it knows Range
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # path, Range, Authorization
    done: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving() -> Iterator[Served]:
    """The server, for as long as the block lasts."""
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": served}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        served.done.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        s = self.served
        s.asked.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if s.silent:
            s.done.wait(30)
            self.close_connection = True
        elif s.statuses:
            self._bare(s.statuses.pop(0), {})
        elif "/resolve/" in self.path:  # as the hub: a redirect that tells of the file, to where it lies
            repo, _, path = self.path.strip("/").partition("/resolve/")
            target = f"/{repo}/{path.partition('/')[2]}"
            self._bare(302 if target in s.files else 404, {"Location": s.url + target, **s.headers})
        elif self.path not in s.files:
            self._bare(404, {})
        else:
            self._file(s.files[self.path], s.tags.get(self.path, ""))

    def _file(self, data: bytes, tag: str) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", tag) == tag
        start = int(found[1]) if found and same and self.served.ranges else 0
        if start and start >= len(data):
            self._bare(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        body = data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.served.cuts.pop(0) if self.served.cuts else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = cut < len(body)

    def _bare(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()
