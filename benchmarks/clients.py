"""The clients that are measured. Each signs (where its protocol wants it), sends and decodes.

Each imports what it needs when it is made, so that a process has its own client and no other. They
are set up well: connections are kept where the client can, as many as there are threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from benchmarks.wire import WORD

T = TypeVar("T")

PROMPT = "Hello, how are you?"
MESSAGES = [{"role": "user", "content": PROMPT}]


def signed() -> dict[str, Any]:
    """The body of a request, as the seed makes it."""
    now = int(time.time() * 1000)
    return {
        "messages": [{"role": "user", "parts": [{"text": PROMPT}]}],
        "time": now,
        "pass": None,
        "sign": hashlib.sha256(f"{now}:{PROMPT}:".encode()).hexdigest(),
    }


class Peer:
    """One client for one site.

    Args:
        url: the site.
        chunks: how many its answers have.
        connections: how many requests will be in flight at once.
    """

    def __init__(self, url: str, chunks: int, connections: int = 1) -> None:
        self.url = url
        self.connections = connections
        self._expected = WORD * chunks
        self.set_up()

    def set_up(self) -> None:
        """Import and make whatever is kept between the calls."""

    def close(self) -> None:
        """Close what does not close automatically."""

    def check(self, text: str) -> None:
        if text != self._expected:
            raise ValueError(f"a wrong answer of {len(text)} characters: {text[:40]!r}")


class Schedule:
    """When the chunks of an answer are due, and by how much the latest of them was late.

    Args:
        latency: seconds from the request to the first chunk.
        gap: seconds from one chunk to the next.
    """

    def __init__(self, latency: float, gap: float) -> None:
        self._first_due = time.perf_counter() + latency
        self._gap = gap
        self._received = 0
        self.late = 0.0

    def received(self, text: str) -> None:
        """Note the arrival of text; the first chunk in it has waited for the longest."""
        due = self._first_due + self._gap * (self._received // len(WORD))
        self.late = max(self.late, time.perf_counter() - due)
        self._received += len(text)


class Blocking(Peer):
    """A client that is called from threads."""

    def stream(self) -> Iterator[str]:
        """Ask, and give the text as it arrives."""
        raise NotImplementedError

    def ask(self) -> str:
        return "".join(self.stream())

    def answer(self) -> None:
        self.check(self.ask())

    def time_to_first_chunk(self) -> float:
        """Seconds to the first text."""
        began = time.perf_counter()
        stream = self.stream()
        first = next(stream)
        took = time.perf_counter() - began
        self.check(first + "".join(stream))
        return took

    def latest_chunk(self, latency: float, gap: float) -> float:
        """Seconds by which the latest chunk of an answer is late."""
        schedule = Schedule(latency, gap)
        for text in self.stream():
            schedule.received(text)
        return schedule.late

    def run(self, job: Callable[[], T], width: int, each: int, stagger: float = 0.0) -> list[T]:
        """Do the job ``each`` times in each of ``width`` threads that begin ``stagger`` apart."""
        if width == 1:
            return [job() for _ in range(each)]

        def work(number: int) -> list[T]:
            time.sleep(number * stagger)
            return [job() for _ in range(each)]

        with ThreadPoolExecutor(width) as pool:
            return [result for results in pool.map(work, range(width)) for result in results]

    def hold(self, count: int, measure: Callable[[], T]) -> T:
        """Measure while so many answers have begun and are not at their end."""
        streams = [self.stream() for _ in range(count)]
        for stream in streams:
            next(stream)
        return measure()


class Asynchronous(Peer):
    """A client that is called from tasks, in one event loop."""

    def set_up(self) -> None:
        self.loop = asyncio.new_event_loop()

    def stream(self) -> AsyncIterator[str]:
        raise NotImplementedError

    async def answer(self) -> None:
        self.check("".join([text async for text in self.stream()]))

    async def time_to_first_chunk(self) -> float:
        began = time.perf_counter()
        stream = self.stream()
        first = await anext(stream)
        took = time.perf_counter() - began
        self.check(first + "".join([text async for text in stream]))
        return took

    async def latest_chunk(self, latency: float, gap: float) -> float:
        schedule = Schedule(latency, gap)
        async for text in self.stream():
            schedule.received(text)
        return schedule.late

    def run(
        self, job: Callable[[], Awaitable[T]], width: int, each: int, stagger: float = 0.0
    ) -> list[T]:
        async def work(number: int) -> list[T]:
            await asyncio.sleep(number * stagger)
            return [await job() for _ in range(each)]

        async def gather() -> list[T]:
            done = await asyncio.gather(*(work(number) for number in range(width)))
            return [result for results in done for result in results]

        return self.loop.run_until_complete(gather())

    def hold(self, count: int, measure: Callable[[], T]) -> T:
        async def begin() -> list[AsyncIterator[str]]:
            streams = [self.stream() for _ in range(count)]
            for stream in streams:
                await anext(stream)
            return streams

        streams = self.loop.run_until_complete(begin())
        measured = measure()
        for stream in streams:
            self.loop.run_until_complete(stream.aclose())  # type: ignore[attr-defined]
        return measured


# --- this protocol ----------------------------------------------------------------------------


class Ours(Blocking):
    """This package, as it comes: retries, pacer and time limits."""

    def set_up(self) -> None:
        from aichatfree import Client

        self.client = Client(self.url)
        self.close = self.client.close  # type: ignore[method-assign]

    def stream(self) -> Iterator[str]:
        return iter(self.client.stream(PROMPT))

    def ask(self) -> str:
        return self.client.generate(PROMPT).text


class RequestsLoop(Blocking):
    """requests: one Session, a post for each call."""

    def set_up(self) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.mount("http://", HTTPAdapter(pool_maxsize=self.connections))
        self.post = session.post

    def stream(self) -> Iterator[str]:
        url = self.url + "/api/generate"
        with self.post(url, json=signed(), stream=True, timeout=60) as response:
            response.raise_for_status()
            for chunk in response.iter_content(None):
                yield chunk.decode()


class RequestsPost(RequestsLoop):
    """requests without a Session: ``requests.post``."""

    def set_up(self) -> None:
        import requests

        self.post = requests.post


class Seed(Asynchronous):
    """The seed's design: aiohttp, a session for each call."""

    def set_up(self) -> None:
        super().set_up()
        from aiohttp import ClientSession

        self.session = ClientSession

    async def stream(self) -> AsyncIterator[str]:
        headers = {
            "User-Agent": "Mozilla/5.0",
            "Accept": "*/*",
            "Content-Type": "text/plain;charset=UTF-8",
            "Origin": self.url,
        }
        async with (
            self.session(headers=headers) as session,
            session.post(self.url + "/api/generate", json=signed()) as response,
        ):
            response.raise_for_status()
            async for chunk in response.content.iter_any():
                yield chunk.decode()


class Aiohttp(Asynchronous):
    """aiohttp: one session for all calls."""

    def set_up(self) -> None:
        super().set_up()
        from aiohttp import ClientSession, TCPConnector

        async def make() -> ClientSession:
            return ClientSession(connector=TCPConnector(limit=self.connections))

        self.session = self.loop.run_until_complete(make())

    def close(self) -> None:
        self.loop.run_until_complete(self.session.close())

    async def stream(self) -> AsyncIterator[str]:
        async with self.session.post(self.url + "/api/generate", json=signed()) as response:
            response.raise_for_status()
            async for chunk in response.content.iter_any():
                yield chunk.decode()


class Httpx(Blocking):
    """httpx: one Client."""

    def set_up(self) -> None:
        import httpx

        limits = httpx.Limits(
            max_connections=self.connections, max_keepalive_connections=self.connections
        )
        self.client = httpx.Client(limits=limits, timeout=60)

    def stream(self) -> Iterator[str]:
        url = self.url + "/api/generate"
        with self.client.stream("POST", url, json=signed()) as response:
            response.raise_for_status()
            yield from response.iter_text()


class HttpClient(Blocking):
    """The standard library's http.client, connections kept in a queue."""

    def set_up(self) -> None:
        import http.client

        site = urlsplit(self.url)
        self.path = site.path + "/api/generate"
        self.idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.connect = partial(http.client.HTTPConnection, site.netloc, timeout=60)

    def stream(self) -> Iterator[str]:
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = self.connect()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", self.path, json.dumps(signed()), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        while chunk := response.read1(65536):
            yield chunk.decode()
        self.idle.put(connection)


class Socket(Blocking):
    """The floor: a socket, a constant head, and the least that undoes chunks."""

    def set_up(self) -> None:
        site = urlsplit(self.url)
        self.address = (site.hostname, site.port)
        self.head = (
            f"POST {site.path}/api/generate HTTP/1.1\r\nHost: {site.netloc}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self.idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    def stream(self) -> Iterator[str]:
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = socket.create_connection(self.address, timeout=60)
        body = json.dumps(signed()).encode()
        connection.sendall(b"%s%d\r\n\r\n%s" % (self.head, len(body), body))
        data = connection.recv(65536)
        if not data.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"not an answer: {data[:40]!r}")
        at = data.index(b"\r\n\r\n") + 4
        while True:
            end = data.find(b"\r\n", at)
            size = int(data[at:end], 16) if end >= 0 else 0
            if end < 0 or len(data) < end + size + 4:
                more = connection.recv(65536)
                if not more:
                    raise ConnectionError("it broke off")
                data, at = data[at:] + more, 0
            elif size:
                yield data[end + 2 : end + 2 + size].decode()
                at = end + size + 4
            else:
                break
        self.idle.put(connection)


# --- other protocols --------------------------------------------------------------------------


class Ollama(Blocking):
    """ollama, from a site that speaks its lines of JSON."""

    def set_up(self) -> None:
        import httpx
        import ollama

        limits = httpx.Limits(
            max_connections=self.connections, max_keepalive_connections=self.connections
        )
        self.client = ollama.Client(self.url, limits=limits, timeout=60)

    def stream(self) -> Iterator[str]:
        for part in self.client.chat("llama3.2", MESSAGES, stream=True):
            if part.message.content:
                yield part.message.content


class Openai(Blocking):
    """openai, from a site that speaks its server-sent events."""

    def set_up(self) -> None:
        import openai

        self.client: Any = openai.OpenAI(base_url=self.url + "/v1", api_key="none")

    def stream(self) -> Iterator[str]:
        create = self.client.chat.completions.create
        for chunk in create(model="llama3.2", messages=MESSAGES, stream=True):
            text = chunk.choices[0].delta.content
            if text:
                yield text


CLIENTS: dict[str, type[Blocking] | type[Asynchronous]] = {
    "ours": Ours,
    "requests": RequestsLoop,
    "requests.post": RequestsPost,
    "seed": Seed,
    "aiohttp": Aiohttp,
    "httpx": Httpx,
    "ollama": Ollama,
    "openai": Openai,
    "http.client": HttpClient,
    "socket": Socket,
}
