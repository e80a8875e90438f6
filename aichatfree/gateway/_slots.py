"""How many answers run at once, and the questions that wait for one of them to end."""

from __future__ import annotations

import asyncio
from typing import Final

from ._responses import RefusalError, refusal

MAX_WAITING: Final = 100
"""Questions that may wait; each keeps a connection and its conversation in memory."""


class Slots:
    """Admits questions in the order of their arrival, and refuses those that would wait too long.

    All methods are called in the server's event loop. So nothing is locked.

    Args:
        number: answers that may run at the same time.
        timeout: seconds that a question may wait.
    """

    def __init__(self, number: int, timeout: float) -> None:
        self._number = number
        self._timeout = timeout
        self._free = asyncio.Semaphore(number)
        self._waiting: set[asyncio.Timeout] = set()
        self._closed = False

    async def acquire(self) -> None:
        """Wait for a slot, which has to be released.

        Raises:
            RefusalError: 503, none became free in time, or too many questions are waiting.
        """
        if self._closed or (self._free.locked() and len(self._waiting) >= MAX_WAITING):
            raise self._refusal()
        timeout = asyncio.timeout(self._timeout)
        try:
            async with timeout:
                self._waiting.add(timeout)
                await self._free.acquire()
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._waiting.discard(timeout)

    def release(self) -> None:
        """Give a slot back."""
        self._free.release()

    def close(self) -> None:
        """Refuse all questions from now on, and those that are waiting."""
        self._closed = True
        for timeout in self._waiting:
            if not timeout.expired():
                timeout.reschedule(0)

    def _refusal(self) -> RefusalError:
        if self._closed:
            message = "The gateway is stopping."
        else:
            message = f"All {self._number} streams are in use: try again in a second."
        return refusal(503, message, Retry_After="1")
