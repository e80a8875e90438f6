"""One run of an engine, in a thread of its own, so that nobody is stuck in a silent engine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from .._protocol.messages import Message, replace_surrogates
from ._engines.engine import Engine

AHEAD: Final = 16
"""Pieces that an engine may be ahead of its reader."""
POLL: Final = 0.1


class Generation:
    """A running answer.

    Args:
        engine: makes the answer.
        messages: the conversation.
        temperature: as the client asked, or ``None``.
        on_end: called in the engine's thread when the engine has ended, before its end is seen.
    """

    def __init__(
        self,
        engine: Engine,
        messages: list[Message],
        temperature: float | None,
        on_end: Callable[[Generation], None],
    ) -> None:
        self._cancelled = threading.Event()
        self._pieces: queue.Queue[str | Exception | None] = queue.Queue(AHEAD)
        self._thread = threading.Thread(
            target=self._run,
            args=(engine, messages, temperature, on_end),
            name="aichatfree-engine",
            daemon=True,
        )
        self._thread.start()

    def piece(self, timeout: float) -> str | None:
        """The next piece; ``None`` at the end.

        Raises:
            queue.Empty: there was none within ``timeout`` seconds.
            Exception: whatever the engine raised.
        """
        item = self._pieces.get(timeout=timeout)
        if isinstance(item, Exception):
            raise item
        return item

    def cancel(self) -> None:
        """Tell the engine that nobody wants more."""
        self._cancelled.set()

    def join(self, timeout: float) -> bool:
        """Whether the engine has ended, within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(
        self,
        engine: Engine,
        messages: list[Message],
        temperature: float | None,
        on_end: Callable[[Generation], None],
    ) -> None:
        end: Exception | None = None
        try:
            self._feed(engine, messages, temperature)
        except Exception as error:
            end = error
        except BaseException as error:
            # In this thread it would end nothing but the thread, and leave the reader waiting.
            end = RuntimeError(f"the engine raised {error!r}")
        finally:
            on_end(self)
        self._put(end)

    def _feed(self, engine: Engine, messages: list[Message], temperature: float | None) -> None:
        pieces = engine.generate(messages, temperature=temperature, cancelled=self._cancelled)
        try:
            for piece in pieces:
                if piece:
                    self._put(replace_surrogates(piece))
                if self._cancelled.is_set():
                    return
        finally:
            # Any iterator will do, but a generator has something to tidy up.
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _put(self, item: str | Exception | None) -> None:
        while not self._cancelled.is_set():
            with suppress(queue.Full):
                self._pieces.put(item, timeout=POLL)
                return
