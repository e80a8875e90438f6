"""Clients in separate processes, since a client that hangs can only be killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType

from benchmarks.faults.judge import Seen

START_LIMIT = 60.0  # seconds
TIME_LIMIT = 10.0  # seconds; twice the longest timeout of any case
MAX_CHARACTERS = 20_000_000  # far more than the answer of any case has

Take = Callable[[str | bytes], None]


@dataclass(frozen=True)
class Question:
    """A prompt for a client, with the site and the timeouts (seconds)."""

    text: str
    url: str
    proxy: str | None = None
    connect: float = 2.0
    read: float = 2.0
    total: float | None = None
    max_reply_bytes: int | None = None


Ask = Callable[[Question, Take], None]


class ClientProcess:
    """A client in another process, which is killed at the end of the ``with`` block.

    Args:
        ask: sends a prompt, and calls its second argument with each chunk as it arrives.
        time_limit: seconds after which a call counts as one that never ends.
    """

    def __init__(self, ask: Ask, time_limit: float = TIME_LIMIT) -> None:
        self._ask = ask
        self._time_limit = time_limit
        self._process: multiprocessing.process.BaseProcess | None = None
        self._channel: Connection

    def __enter__(self) -> ClientProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def ask(self, question: Question) -> Seen:
        """What the client's caller receives; the process is killed if that takes too long."""
        if self._process is None:
            self._start()
        self._channel.send(question)
        if self._channel.poll(self._time_limit):
            seen: Seen = self._channel.recv()
            return seen
        self._kill()
        return Seen(ended=False)

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._channel, there = spawn.Pipe()
        process = spawn.Process(target=_answer_questions, args=(there, self._ask))
        process.start()
        self._process = process
        there.close()
        if not self._channel.poll(START_LIMIT):
            raise TimeoutError("the process of a client has not started")
        self._channel.recv()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._channel.close()
            self._process = None


def _answer_questions(channel: Connection, ask: Ask) -> None:
    channel.send(None)
    while True:
        try:
            question = channel.recv()
        except EOFError:
            return
        channel.send(_call(ask, question))


def _call(ask: Ask, question: Question) -> Seen:
    chunks: list[str] = []
    size = 0

    def take(chunk: str | bytes) -> None:
        nonlocal size
        # Bytes are an error, as they are for a caller that joins the chunks.
        chunks.append("" + chunk)  # type: ignore[operator]
        size += len(chunk)
        if size > MAX_CHARACTERS:
            raise _EndlessError

    try:
        ask(question, take)
    except _EndlessError:
        return Seen(ended=False)
    except Exception as error:
        return Seen("".join(chunks), f"{type(error).__name__}: {error}")
    return Seen("".join(chunks))


class _EndlessError(BaseException):
    """A BaseException, so that no client handles it."""
