"""A site that answers as a model does: a chunk every so often, in thousands of connections.

It is written in C because a site in Python would use more CPU than the clients that it is there to
measure. Without a C compiler a Python one takes its place, and the largest parts mean less.
"""

from __future__ import annotations

import heapq
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.elsewhere import elsewhere
from benchmarks.raw_site import path_of, received, reply, whole_request
from benchmarks.wire import FORMATS

LATENCY: Final = 0.5  # seconds from a request to the first chunk
GAP: Final = 0.05  # seconds from one chunk to the next
CHUNKS: Final = 100

SECONDS: Final = LATENCY + GAP * (CHUNKS - 1)
"""How long an answer takes if nobody has to wait for anything else."""


@contextmanager
def live_site() -> Iterator[str]:
    """The URL of such a site, in a process of its own."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        with elsewhere(_serve, _answers()) as url:
            yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/live_site"
        source = Path(__file__).with_name("live_site.c")
        subprocess.run([compiler, "-O2", "-o", program, str(source)], check=True)
        pauses = [str(int(seconds * 1e6)) for seconds in (LATENCY, GAP)]
        answers = [part.decode() for answer in _answers() for part in answer]
        with subprocess.Popen(
            [program, *pauses, str(CHUNKS), *answers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            finally:
                process.kill()


def _answers() -> list[tuple[bytes, bytes, bytes, bytes]]:
    """For each format its path, its head, a chunk, and what follows the last chunk."""
    found = []
    for path, (content_type, chunks) in FORMATS.items():
        head = reply([], content_type, ended=False)
        chunk, *rest = chunks(1)
        framed = reply([chunk], content_type, ended=False)[len(head) :]
        found.append((path.encode(), head, framed, reply(rest, content_type)[len(head) :]))
    return found


def _serve(channel: Any, answers: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    """The same in Python."""
    by_path = {path.decode(): rest for path, *rest in answers}
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(channel, selectors.EVENT_READ)
    channel.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    unfinished: dict[socket.socket, bytes] = {}
    due: list[tuple[float, int, socket.socket, list[bytes], int]] = []
    while True:
        for key, _ in ready.select(max(0.0, due[0][0] - time.monotonic()) if due else None):
            peer: Any = key.fileobj
            if peer is channel:
                return
            if peer is listener:
                ready.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            data = received(peer)
            if not data:
                ready.unregister(peer)
                peer.close()
                continue
            data = unfinished.pop(peer, b"") + data
            if whole_request(data):
                answer = by_path[path_of(data)]
                heapq.heappush(due, (time.monotonic() + LATENCY, peer.fileno(), peer, answer, 0))
            else:
                unfinished[peer] = data
        while due and due[0][0] <= time.monotonic():
            at, number, peer, answer, sent = heapq.heappop(due)
            head, chunk, tail = answer
            last = sent + 1 == CHUNKS
            with suppress(OSError):  # it has hung up
                peer.sendall((b"" if sent else head) + chunk + (tail if last else b""))
                if not last:
                    heapq.heappush(due, (at + GAP, number, peer, answer, sent + 1))
