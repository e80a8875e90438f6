"""Engines whose answers the tests control."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from aichatfree import Message
from aichatfree.gateway import Engine, Usage
from helpers import LONG


class ScriptedEngine(Engine):
    """Answers with these chunks, and fails after them if it was given an error.

    Attributes:
        messages, temperature, max_tokens, cancelled: the arguments of the latest `generate`.
        ended: set when an answer has ended, in whatever way.
    """

    def __init__(self, *chunks: str | Usage, error: BaseException | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.messages: list[Message] = []
        self.temperature: float | None = None
        self.max_tokens: int | None = None
        self.cancelled = threading.Event()
        self.ended = threading.Event()

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        max_tokens: int | None,
        cancelled: threading.Event,
    ) -> Iterator[str | Usage]:
        self.messages, self.temperature, self.cancelled = messages, temperature, cancelled
        self.max_tokens = max_tokens
        try:
            yield from self.answer()
        finally:
            self.ended.set()

    def answer(self) -> Iterator[str | Usage]:
        yield from self.chunks
        if self.error is not None:
            raise self.error


class GatedEngine(ScriptedEngine):
    """Produces one chunk for each `gate.release()`; each answer releases `started` at its start."""

    def __init__(self, *chunks: str) -> None:
        super().__init__(*chunks)
        self.gate = threading.Semaphore(0)
        self.started = threading.Semaphore(0)

    def answer(self) -> Iterator[str | Usage]:
        self.started.release()
        for chunk in self.chunks:
            while not self.gate.acquire(timeout=0.01):
                if self.cancelled.is_set():
                    return
            yield chunk


class SlowEngine(Engine):
    """Produces one chunk, waits, and produces " two"; if stubborn, it also waits when cancelled."""

    def __init__(self, seconds: float, *, stubborn: bool = False, first: str = "one") -> None:
        self.seconds = seconds
        self.stubborn = stubborn
        self.first = first
        self.started = threading.Event()
        self.closed = False

    def generate(
        self, messages: list[Message], *, cancelled: threading.Event, **options: Any
    ) -> Iterator[str]:
        self.started.set()
        yield self.first
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and (self.stubborn or not cancelled.is_set()):
            time.sleep(0.01)
        yield " two"

    def close(self) -> None:
        self.closed = True


class CountingEngine(Engine):
    """Repeats the question with numbers: "Hello 0", "Hello 1" and so on, each in its own line.

    Args:
        lines: how many.
        gap: seconds before each of them.
        start: called when an answer begins; may block.
    """

    def __init__(
        self, lines: int = 1, gap: float = 0, start: Callable[[], object] = lambda: None
    ) -> None:
        self.lines, self.gap, self.start = lines, gap, start
        self.ended = threading.Event()

    def answer(self, question: str) -> str:
        return "".join(f"{question} {i}\n" for i in range(self.lines))

    def generate(
        self, messages: list[Message], *, cancelled: threading.Event, **options: Any
    ) -> Iterator[str]:
        try:
            self.start()
            for line in self.answer(messages[-1]["content"]).splitlines(keepends=True):
                if cancelled.wait(self.gap):
                    return
                yield line
        finally:
            self.ended.set()


def wait_for(semaphore: threading.Semaphore, times: int = 1) -> None:
    """Acquire the semaphore so many times, each within a limit."""
    for _ in range(times):
        assert semaphore.acquire(timeout=LONG)
