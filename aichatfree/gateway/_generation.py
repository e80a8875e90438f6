"""One run of an engine, in a thread of a cache."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import partial
from typing import Final

from .._cancellation import CancelToken
from .._protocol.messages import replace_surrogates
from .._thread_cache import ThreadCache
from ._engines.engine import Engine, EngineError

logger: Final = logging.getLogger(__name__)

MAX_CHUNKS_AHEAD: Final = 16
"""Chunks that an engine may produce before the reader takes the first of them."""


class Generation:
    """A running engine and the chunks that it has produced but nobody has read.

    Purpose: an engine blocks its thread while it waits for its model, and the server's event loop
    must never be blocked. All public methods are called in the loop.

    Guarantees: chunks arrive in order, before the end of the answer or the engine's error. The
    engine is never more than ``MAX_CHUNKS_AHEAD`` chunks ahead of the reader. After :meth:`cancel`
    the engine's thread is not blocked by the reader any more. The loop is woken once for all chunks
    that it has not read yet, and not for each of them.

    Two races are avoided:

    - A chunk that is added while the reader takes the others might not be announced. So the reader
      clears ``_announced`` first and takes the chunks afterwards, and the thread adds its chunk
      before it looks at ``_announced``.
    - A thread that waits for room would wait for ever if the reader cancelled and read no more. So
      ``cancel`` sets the token and then makes room for one chunk, which is the last one, because
      the thread looks at the token after each chunk.

    Args:
        engine: what answers.
        ask: the chunks of its answer; the token is set when nobody waits for them.
        threads: where the engine runs.
        on_end: called when the engine has ended, before the reader sees the end.
    """

    def __init__(
        self,
        engine: Engine,
        ask: Callable[[Engine, CancelToken], Generator[str, None, None]],
        threads: ThreadCache,
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._on_end = on_end
        self._cancel_token = CancelToken()
        self._chunks: deque[str] = deque()
        self._room = threading.Semaphore(MAX_CHUNKS_AHEAD)
        self._announced = False  # the loop will be, or has been, told that there are chunks
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        threads.run(partial(self._run, ask))

    async def read(self) -> list[str]:
        """The chunks that have arrived, at least one; an empty list at the end of the answer.

        Raises:
            EngineError: the engine failed, after the chunks that were read before.
        """
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            self._announced = False
            chunks = [self._chunks.popleft() for _ in range(len(self._chunks))]
            if self._ended:
                self._arrived.set()  # the next call need not wait
            if chunks:
                self._room.release(len(chunks))
                return chunks
            if self._error is not None:
                raise self._engine_error(self._error)
            if self._ended:
                return []

    def cancel(self) -> None:
        """Tell the engine to stop; nothing is read afterwards."""
        self._cancel_token.set()
        self._room.release()

    def _engine_error(self, error: Exception) -> EngineError:
        if isinstance(error, EngineError):
            return error
        logger.error("the engine %s failed", type(self._engine).__name__, exc_info=error)
        failure = EngineError("The engine failed; the gateway's log has the reason.")
        failure.__cause__ = error
        return failure

    def _end(self, error: Exception | None) -> None:
        self._on_end()
        self._error = error
        self._ended = True
        self._arrived.set()

    # --- in the engine's thread ---------------------------------------------------------------

    def _run(self, ask: Callable[[Engine, CancelToken], Generator[str, None, None]]) -> None:
        error: Exception | None = None
        try:
            with closing(ask(self._engine, self._cancel_token)) as chunks:
                self._produce(chunks)
        except Exception as failure:
            error = failure
        except BaseException as failure:
            # Raised in this thread it would only end the thread, and leave the reader waiting.
            error = RuntimeError(f"the engine raised {failure!r}")
        self._call_in_loop(partial(self._end, error))

    def _produce(self, chunks: Generator[str, None, None]) -> None:
        for chunk in chunks:
            if not isinstance(chunk, str):
                raise TypeError(f"an engine must produce str, not {type(chunk).__name__}")
            if chunk:
                self._put(replace_surrogates(chunk))
            if self._cancel_token.is_set():
                return

    def _put(self, chunk: str) -> None:
        self._room.acquire()
        self._chunks.append(chunk)
        if not self._announced:
            self._announced = True
            self._call_in_loop(self._arrived.set)

    def _call_in_loop(self, action: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop was closed, and nobody reads any more
            self._loop.call_soon_threadsafe(action)
