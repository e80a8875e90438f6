"""The thread backend: answers the items of a batch in threads of this process."""

from __future__ import annotations

import math
import queue
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Final

from .._call import Call
from .._cancellation import CancelToken
from .._prompt_sender import PromptSender
from .._thread_cache import ThreadCache
from ..errors import APIError
from ..retry import RetryPolicy
from ._backend import Outcome, wait_interruptibly
from ._deferred import DeferredItems
from ._prompts import Item
from ._recorder import Recorder
from ._rejections import Deferred, batch_retrying, deferral
from ._results import BatchResult

STACK_SIZE: Final = 2 * 1024 * 1024
"""Bytes of a thread's stack. With less, Python 3.13 crashes when it reads deeply nested JSON."""

THREAD_CACHE: Final = ThreadCache("aichatfree-batch", stack_size=STACK_SIZE)
"""The cache that all batches of this process share."""

WATCH_INTERVAL: Final = 0.1
"""Seconds without another item to send after which a deferred one need not wait for answers."""
IDLE_INTERVAL: Final = 1.0
"""Seconds after which an idle thread looks whether another still looks after deferred items."""

OTHER_FILES: Final = 20
"""Files that a process has open besides the connections of a batch."""


def check_open_files(max_workers: int) -> None:
    """Raise ValueError if this process may not open a connection for each thread."""
    try:
        import resource
    except ImportError:  # only Unix has it, and such a limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and max_workers + OTHER_FILES > limit:
        raise ValueError(
            f"max_workers={max_workers} needs that many connections, but this process may have "
            f"{limit} open files: raise the limit (ulimit -n {max_workers + 100}), or use at most "
            f"max_workers={max(1, limit - OTHER_FILES)}"
        )


class ThreadBackend:
    """Answers items in threads, as many as are needed.

    An item that a single site rejected is deferred, and the threads answer others meanwhile; see
    `DeferredItems`. A router repeats its attempts in the thread.

    Args:
        requester: sends the prompts.
        recorder: gets each result as soon as it is complete.
        max_workers: the largest number of threads.
        stopping: set when nothing more may be sent, here or by the circuit breaker.
    """

    def __init__(
        self,
        requester: PromptSender,
        recorder: Recorder,
        max_workers: int,
        stopping: threading.Event,
    ) -> None:
        self._requester = requester
        self._recorder = recorder
        self._max_workers = max_workers
        self._stopping = stopping
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._threads: list[threading.Event] = []  # one for each, set when it has finished
        self._calls: set[Call] = set()  # in flight
        self._deferred = DeferredItems(requester.rate_limiter.answers_needed)
        # Held by the idle thread that looks after the deferred items, while it waits for another.
        self._watching = threading.Lock()
        # Enough that other threads stay busy while ordered results wait for one slow item, and that
        # others are answered while a few are rejected.
        self.capacity: int = 16 * max(max_workers, 8)

    def submit(self, item: Item) -> None:
        self._items.put(item)
        if len(self._threads) < self._max_workers:
            finished = threading.Event()
            try:
                THREAD_CACHE.run(partial(self._work, finished))
            except RuntimeError:  # the system has no more threads: use those that there are
                if not self._threads:
                    raise
                self._max_workers = len(self._threads)
            else:
                self._threads.append(finished)

    def flush(self) -> None:
        """Nothing to do: every item is begun as soon as a thread is free."""

    def get(self, timeout: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        with suppress(queue.Empty):
            outcomes.append(self._outcomes.get(timeout=timeout))
            while not self._outcomes.empty():
                outcomes.append(self._outcomes.get_nowait())
        return outcomes

    def stop(self) -> None:
        self._stopping.set()

    def cancel(self) -> None:
        self._stopping.set()
        for call in list(self._calls):
            call.cancel_token.set()

    def close(self, timeout: float | None = None) -> None:
        self._items.put(None)
        # A thread that is connecting cannot be interrupted, but it is a daemon.
        wait_interruptibly([finished.wait for finished in self._threads], timeout)

    def _work(self, finished: threading.Event) -> None:
        try:
            while (item := self._next()) is not None:
                self._process(item)
            self._items.put(None)  # for the other threads
        finally:
            finished.set()

    def _next(self) -> Item | None:
        """The next item; ``None`` if there will be no more.

        One idle thread at a time sends deferred items that wait for answers to others, if there has
        been no other item for a moment.
        """
        while True:
            is_stopping = self._stopping.is_set()  # if so, all deferred items end now
            now = math.inf if is_stopping else time.monotonic()
            item = self._deferred.next(now, has_others=not is_stopping)
            if item is not None:
                return item
            watches = self._watching.acquire(blocking=False)
            try:
                return self._items.get(timeout=WATCH_INTERVAL if watches else IDLE_INTERVAL)
            except queue.Empty:
                if watches:
                    item = self._deferred.next(time.monotonic(), has_others=False)
            finally:
                if watches:
                    self._watching.release()
            if item is not None:
                return item

    def _process(self, item: Item) -> None:
        outcome: BatchResult | Deferred | BaseException | None = None
        if not self._stopping.is_set():
            try:
                outcome = self._answer(item)
            except BaseException as error:  # the disk is full, for example: it ends the run
                self._stopping.set()
                outcome = error
        if isinstance(outcome, Deferred):
            self._deferred.add(item, time.monotonic() + outcome.seconds)
        else:
            self._outcomes.put((item, outcome))

    def _answer(self, item: Item) -> BatchResult | Deferred | None:
        """Send one prompt; ``None`` if the run was stopped before it was answered."""
        item.started = item.started or time.monotonic()
        settings = self._requester.settings
        token = CancelToken(self._stopping)
        call = Call(
            settings.timeout, token, rejections=item.rejections, starts_with_first_request=True
        )
        self._calls.add(call)
        failure: APIError | None = None
        first_chunk: float | None = None
        retrying = partial(batch_retrying, failures=item.attempts - len(item.rejections))
        try:
            reply = self._requester.answer(item.prompt, item.temperature, call, retrying)
            text, attempts = reply.text, reply.attempts
            first_chunk = reply.time_to_first_chunk
        except APIError as error:
            if self._stopping.is_set():
                return None  # cancelled, or the reason why the run stops: the next run retries it
            # A router repeats the attempts itself, and has rejections for each site.
            is_single = call.rejections is item.rejections
            again = deferral(error, item.rejections)
            if again is not None and is_single and isinstance(settings.retry, RetryPolicy):
                item.attempts += error.attempts
                return again
            text, failure, attempts = error.partial_text, error, error.attempts
        finally:
            self._calls.discard(call)
        attempts += item.attempts
        elapsed = time.monotonic() - item.started
        result = BatchResult(
            item.custom_id,
            item.index,
            text,
            failure,
            attempts,
            elapsed,
            time_to_first_chunk=first_chunk,
            site=call.site,
        )
        self._recorder.record(item, result)
        return result
