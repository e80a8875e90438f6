"""Clients in processes of their own, since one that hangs can only be killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType

from benchmarks.faults.judge import Seen

START_LIMIT = 60.0  # seconds
PATIENCE = 10.0  # seconds; twice the longest time limit of any case
MOST = 20_000_000  # characters; no answer of a case is nearly as long

Take = Callable[[str | bytes], None]


@dataclass(frozen=True)
class Question:
    """What a client is asked, where, and within which limits (seconds)."""

    text: str
    url: str
    proxy: str | None = None
    connect: float = 2.0
    read: float = 2.0
    total: float | None = None
    max_reply_bytes: int | None = None


Ask = Callable[[Question, Take], None]


class ClientProcess:
    """A client that is asked in another process; closed when its ``with`` block ends.

    Args:
        ask: how the client asks: it hands over each piece of the answer as it comes.
        patience: seconds after which a call that has not ended never will.
    """

    def __init__(self, ask: Ask, patience: float = PATIENCE) -> None:
        self._ask = ask
        self._patience = patience
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
        """What the client's caller gets; the process is ended if that takes too long."""
        if self._process is None:
            self._start()
        self._channel.send(question)
        if self._channel.poll(self._patience):
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
            raise TimeoutError("the process of a client does not start")
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
    pieces: list[str] = []
    size = 0

    def take(piece: str | bytes) -> None:
        nonlocal size
        # Bytes are an error, as they are for whoever joins the pieces.
        pieces.append("" + piece)  # type: ignore[operator]
        size += len(piece)
        if size > MOST:
            raise _EndlessError

    try:
        ask(question, take)
    except _EndlessError:
        return Seen(ended=False)
    except Exception as error:
        return Seen("".join(pieces), f"{type(error).__name__}: {error}")
    return Seen("".join(pieces))


class _EndlessError(BaseException):
    """Not an Exception, so that no client handles it."""
