"""One run of an engine, in its own thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Final

from .._cancellation import CancelToken
from .._protocol.messages import replace_surrogates

MAX_CHUNKS_AHEAD: Final = 16
"""Chunks that an engine may produce before the reader takes the first of them; at least 2."""


class Generation:
    """A running engine and the chunks that it has produced but nobody has read.

    Purpose: the thread of a request must notice that its client has gone while the engine is
    silent, which it could not do inside the engine's iterator.

    Guarantees: chunks arrive in order and end with ``None`` or with the engine's error, unless the
    reader cancels. The engine is never more than ``MAX_CHUNKS_AHEAD`` chunks ahead of the reader.
    After :meth:`cancel` the engine's thread is not blocked by the queue any more.

    The race that :meth:`cancel` avoids: (1) the queue is full and the engine's thread waits for
    room; (2) the reader cancels and reads no more; (3) the engine's thread waits for ever. So
    ``cancel`` first sets the token and then empties the queue. From then on the thread puts at most
    two items, a last chunk and the end, because it looks at the token after each chunk.

    Args:
        ask: the chunks of the engine's answer; its token is set when nobody waits for them.
        on_end: called in the engine's thread when the engine has ended, before the reader sees
            the end.
    """

    def __init__(
        self,
        ask: Callable[[CancelToken], Generator[str, None, None]],
        on_end: Callable[[Generation], None],
    ) -> None:
        self._cancel_token = CancelToken()
        self._chunks: queue.Queue[str | Exception | None] = queue.Queue(MAX_CHUNKS_AHEAD)
        self._thread = threading.Thread(
            target=self._run, args=(ask, on_end), name="aichatfree-engine", daemon=True
        )
        self._thread.start()

    def next_chunk(self, timeout: float) -> str | None:
        """The next chunk; ``None`` at the end of the answer.

        Raises:
            queue.Empty: there was none within ``timeout`` seconds.
            Exception: whatever the engine raised.
        """
        item = self._chunks.get(timeout=timeout)
        if isinstance(item, Exception):
            raise item
        return item

    def cancel(self) -> None:
        """Tell the engine to stop; only the reader may do this, and reads no more afterwards."""
        self._cancel_token.set()
        with suppress(queue.Empty):
            while True:
                self._chunks.get_nowait()

    def join(self, timeout: float) -> bool:
        """Wait for the engine to end, for at most ``timeout`` seconds; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(
        self,
        ask: Callable[[CancelToken], Generator[str, None, None]],
        on_end: Callable[[Generation], None],
    ) -> None:
        end: Exception | None = None
        try:
            with closing(ask(self._cancel_token)) as chunks:
                self._produce(chunks)
        except Exception as error:
            end = error
        except BaseException as error:
            # Raised in this thread it would only end the thread, and leave the reader waiting.
            end = RuntimeError(f"the engine raised {error!r}")
        finally:
            on_end(self)
        self._chunks.put(end)

    def _produce(self, chunks: Generator[str, None, None]) -> None:
        for chunk in chunks:
            if chunk:
                self._chunks.put(replace_surrogates(chunk))
            if self._cancel_token.is_set():
                return
