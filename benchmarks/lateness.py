"""How late are chunks that come through a gateway? ``python -m benchmarks.lateness``

1 and 200 streams, which begin at random times within a second; each has 100 chunks, one every
50 ms. Each chunk is the time at which it was produced, so that a raw client knows how late it is:
directly from a site, through a gateway whose engine produces the chunks, and through a gateway
whose engine is the same site. Site, gateway and client are a process each. The first chunk of each
stream is left out, because that of a site may wait for the second.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from aichatfree import GEMINI, Client, Message, Site
from aichatfree._protocol.signing import request_body
from aichatfree.gateway import Engine, Gateway, SiteEngine
from benchmarks.elsewhere import elsewhere

STREAMS = (1, 200)
CHUNKS = 100
GAP = 0.05  # seconds
TARGET = 0.02  # seconds
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk() -> str:
    return f"@{time.monotonic():.6f}\n"


# --- the site ---------------------------------------------------------------------------------


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    writer.write(HEAD)
    began = time.monotonic()
    for number in range(CHUNKS):
        await asyncio.sleep(began + number * GAP - time.monotonic())
        text = chunk().encode()
        writer.write(b"%x\r\n%b\r\n" % (len(text), text))
    writer.write(b"0\r\n\r\n")
    writer.close()


async def serve_site(channel: Connection) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    channel.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await asyncio.to_thread(channel.recv)


def site(channel: Connection) -> None:
    asyncio.run(serve_site(channel))


# --- the gateways -----------------------------------------------------------------------------


class Ticking(Engine):
    """Produces the same chunks as the site, each answer in a thread."""

    def generate(
        self, messages: list[Message], *, cancelled: threading.Event, **options: Any
    ) -> Iterator[str]:
        began = time.monotonic()
        for number in range(CHUNKS):
            time.sleep(max(0.0, began + number * GAP - time.monotonic()))
            yield chunk()


def gateway(channel: Connection, url: str | None) -> None:
    engine = Ticking() if url is None else SiteEngine(Client(url))
    with closing(engine), Gateway(engine, max_streams=max(STREAMS)) as running:
        channel.send(running.url)
        channel.recv()


# --- the client -------------------------------------------------------------------------------


class Reader(asyncio.Protocol):
    """Asks one question and notes by how many seconds each chunk is late."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.ended = asyncio.get_running_loop().create_future()
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        now = int(time.time() * 1000)
        question: list[Message] = [{"role": "user", "content": f"Tick {random.random()}."}]
        body = request_body(Site("http://x", dialect=GEMINI), question, now=now)
        transport.write(
            b"POST /api/generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.late += [now - float(line[1:]) for line in lines if re.match(rb"@\d", line)]

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def read(url: str) -> list[float]:
    await asyncio.sleep(random.random())
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(Reader, address.hostname, address.port)
    await reader.ended
    assert len(reader.late) == CHUNKS, len(reader.late)
    return reader.late[1:]


async def read_all(url: str, streams: int) -> list[float]:
    late = await asyncio.gather(*[read(url) for _ in range(streams)])
    return sorted(itertools.chain.from_iterable(late))


def main() -> None:
    print(f"{'ms late':<22}{'streams':>8}{'median':>9}{'p99':>9}{'worst':>9}{'within 20 ms':>15}")
    with (
        elsewhere(site) as direct,
        elsewhere(gateway, None) as ticking,
        elsewhere(gateway, direct) as through,
    ):
        ways = {"direct": direct, "gateway": ticking, "gateway to the site": through}
        for streams, (name, url) in itertools.product(STREAMS, ways.items()):
            late = asyncio.run(read_all(url, streams))
            median, p99 = statistics.median(late), late[int(len(late) * 0.99)]
            figures = "".join(f"{each * 1000:9.2f}" for each in (median, p99, late[-1]))
            within = sum(each <= TARGET for each in late) / len(late)
            print(f"{name:<22}{streams:>8}{figures}{within:>15.2%}", flush=True)


if __name__ == "__main__":
    main()
