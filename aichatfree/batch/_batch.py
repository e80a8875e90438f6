"""``Batch``: takes items, feeds the backend, returns results in order, and knows when to stop."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from .._locks import SignalSafeLock
from .._output.terminal import wrapped
from .._slot_queue import SlotQueue
from ..errors import AIChatFreeError
from ._backend import POLL_INTERVAL, Backend, Outcome
from ._events import RunEvents
from ._interrupt import finish_or_cancel
from ._journal import SYNC_INTERVAL
from ._ordering import Deduplicator, ReorderBuffer
from ._progress import Progress
from ._prompts import Item, Items
from ._recorder import Recorder
from ._results import BatchResult
from ._summary import Meter, Summary
from ._table import to_frame

if TYPE_CHECKING:
    import pandas

_SLOW_INPUT: Final = 0.001  # seconds
_CLOSE_TIMEOUT: Final = 1.0  # seconds for threads to notice that their requests were cancelled


class BatchState(IntEnum):
    """The states of a batch, in their order; it may skip some but never goes back."""

    NEW = 1
    """Nothing was sent: iteration has not begun."""
    FEEDING = 2
    """Items are read from the input and sent as the backend has capacity for them."""
    DRAINING = 3
    """The input has ended; the last results are still to come."""
    STOPPING = 4
    """The run was stopped: nothing more is sent, and the requests in flight are waited for."""
    CLOSED = 5
    """Requests in flight are cancelled, threads end; results may be left for ``drain``."""


class Batch(Iterator[BatchResult]):
    """The results of a batch, one by one. Nothing is sent before the first one is requested.

    Use it as a context manager or iterate to the end; otherwise its threads continue with the
    prompts in flight. After Ctrl-C it sends nothing more, waits for the requests in flight and
    keeps their results; a second Ctrl-C cancels them.

    >>> with client.batch(["Name a river.", "Name a lake."]) as batch:
    ...     for result in batch:
    ...         print(result.text)
    The Nile.
    Lake Baikal.
    >>> batch.summary.answered, batch.summary.complete
    (2, True)
    """

    def __init__(
        self,
        items: Iterator[Item],
        backend: Backend,
        recorder: Recorder,
        rate_limiter: SlotQueue[Any],
        *,
        events: RunEvents | None = None,
        inputs: Items | None = None,
        total: int | None = None,
        ordered: bool = True,
        progress: bool | None = None,
        dedupe: bool = False,
    ) -> None:
        self._items = items
        self._backend = backend
        self._recorder = recorder
        self._journal = recorder.journal
        self._inputs = inputs  # where the items are from, if it can be read again
        self._meter = Meter(rate_limiter)
        self._events = events or RunEvents(None, {})
        self._total = total
        self._progress = Progress(progress, total)
        self._duplicates = Deduplicator() if dedupe else None
        self._finished = ReorderBuffer(ordered)
        self._outcomes: deque[Outcome] = deque()  # of the backend, not yet processed
        # Held while outcomes are fetched and processed, for POLL_INTERVAL at most: when another
        # thread calls close(), CPython's SimpleQueue would ignore the timeout of one of them.
        self._collect_lock = SignalSafeLock()
        self._in_flight = 0  # items that the backend has
        self._pending = 0  # items read from the input whose results have not been returned
        self._stop_error: BaseException | None = None  # why it is stopping
        # Guards changes of _state, because close() may be called by any thread. Reentrant, because
        # a garbage collection may call close() too. Nothing else may be done while holding it.
        self._state_lock = threading.RLock()
        self._state = BatchState.NEW

    @property
    def summary(self) -> Summary:
        """What has been done so far."""
        if self._state is not BatchState.CLOSED:
            self._meter.measure()
        return self._meter.summary

    def run(self) -> Summary:
        """Run to the end without looking at the results, if only the output file is needed.

        Raises:
            AIChatFreeError: the run was stopped; finished results are kept.
        """
        for _ in self:
            pass
        return self.summary

    def to_pandas(self) -> pandas.DataFrame:
        """Run to the end and return the results as a frame of pandas, one row for each input.

        >>> client.batch(["Name a river.", "Name a lake."]).to_pandas()["answer"].to_list()
        ['The Nile.', 'Lake Baikal.']

        The frame has the columns of the input (``custom_id`` if that was a lazy iterable) and
        ``answer``, ``error``, ``attempts``, ``elapsed``, ``time_to_first_chunk`` (both in seconds)
        and ``site``. A row that failed has a missing value as its answer.

        Raises:
            ImportError: pandas is not installed.
            ValueError: the input has a column with one of these names.
            AIChatFreeError: the run was stopped, or results of it were returned before.
        """
        if self._state is not BatchState.NEW:
            raise AIChatFreeError(
                "Results of this batch were returned before: call to_pandas() instead of iterating."
            )
        return to_frame(self, self._inputs)

    def drain(self) -> list[BatchResult]:
        """The finished results that iterating has not returned; to be called after Ctrl-C."""
        self._finished.skip_missing()
        results = []
        while self._finished:
            results.append(self._finished.take())
        return results

    def close(self) -> None:
        """Cancel the requests in flight and end the threads; finished results are kept."""
        if not self._advance(BatchState.CLOSED):
            return
        self._meter.measure()
        try:
            if self._in_flight:
                self._backend.cancel()
            self._backend.close(_CLOSE_TIMEOUT)
            self._collect(0)
        finally:
            self._draw(now=True)
            self._progress.close()
            self._events.end(self._meter.summary.counts())
            if self._journal is not None:
                self._journal.close()

    def _advance(self, state: BatchState) -> bool:
        """Enter a state, the only place that does; ``False`` if it is not ahead of this one."""
        with self._state_lock:
            ahead = state > self._state
            if ahead:
                self._state = state
            return ahead

    # --- iterating ----------------------------------------------------------------------------

    def __next__(self) -> BatchResult:
        if self._state is BatchState.CLOSED:
            raise StopIteration
        try:
            return self._next()
        except KeyboardInterrupt:
            self._interrupt()
            raise
        except BaseException:
            self.close()
            raise

    def _next(self) -> BatchResult:
        if self._advance(BatchState.FEEDING):
            self._meter.start()
            self._events.start(self._total)
            self._progress.start()
        while not self._finished:
            if self._state is BatchState.CLOSED:
                raise AIChatFreeError("The batch was closed by another thread.")
            if self._state is BatchState.FEEDING:
                self._feed()
            ending = self._state in (BatchState.DRAINING, BatchState.STOPPING)
            if ending and self._in_flight == 0 and not self._finished:
                self._finish()
            if not self._finished:
                self._wait()
        self._pending -= 1
        self._progress.clear()
        return self._finished.take()

    def _finish(self) -> None:
        """Nothing is in flight any more: what is left is returned, then the iteration ends."""
        self._finished.skip_missing()  # what a stopped run did not send will not be answered
        if self._finished:
            return
        if self._stop_error is not None:
            raise self._stop_error
        self._meter.summary.complete = True
        raise StopIteration

    def _wait(self) -> None:
        """Process what the backend has finished, and do what has to be done regularly."""
        self._collect(0 if self._outcomes else POLL_INTERVAL)
        if self._journal is not None:
            self._journal.sync(every=SYNC_INTERVAL)
        self._events.look()
        self._draw()
        reason = self._recorder.breaker.reason()
        if reason is not None and self._state is not BatchState.STOPPING:
            self._stop(AIChatFreeError(f"{reason} {self._how_to_continue()}".rstrip()))

    # --- the input ----------------------------------------------------------------------------

    def _feed(self) -> None:
        """Read items until the backend has as many as it can use."""
        try:
            while self._state is BatchState.FEEDING and self._pending < self._backend.capacity:
                asked = time.monotonic()
                item = next(self._items, None)
                is_slow = time.monotonic() - asked > _SLOW_INPUT
                if item is None:
                    self._advance(BatchState.DRAINING)
                    break
                self._begin_item(item)
                if is_slow:
                    self._collect(0)
                    if self._finished:
                        return  # results do not wait for a slow input
        except Exception as error:
            self._stop(error)
        if self._state is not BatchState.FEEDING:
            self._backend.flush()

    def _begin_item(self, item: Item) -> None:
        self._finished.expect(item.index)
        known = self._known_result(item)
        self._pending += 1
        if known is not None:
            self._finished.add(known)
        elif self._duplicates is None or not self._duplicates.follow(item):
            self._backend.submit(item)
            self._in_flight += 1

    def _known_result(self, item: Item) -> BatchResult | None:
        """The result of an item that does not have to be sent."""
        if item.error is not None:
            result = BatchResult(item.custom_id, item.index, error=item.error)
            return self._record(item, result)
        earlier = self._journal.earlier(item) if self._journal is not None else None
        if earlier is not None:
            self._meter.count(earlier)
            return earlier
        answer = self._duplicates.answer(item) if self._duplicates is not None else None
        return None if answer is None else self._copy(answer, item)

    # --- results ------------------------------------------------------------------------------

    def _collect(self, timeout: float) -> None:
        """Process the outcomes that the backend has, or gets within so many seconds."""
        with self._collect_lock:
            self._outcomes.extend(self._backend.get(timeout))
            while self._outcomes:
                self._process(*self._outcomes.popleft())

    def _process(self, item: Item, result: BatchResult | BaseException | None) -> None:
        self._in_flight -= 1
        if not isinstance(result, BatchResult):
            self._pending -= 1
            if result is not None:
                self._stop(result)
            return
        self._meter.count(result)
        self._finished.add(result)
        if self._duplicates is not None:
            for follower in self._duplicates.finish(item, result):
                self._finished.add(self._copy(result, follower))

    def _copy(self, result: BatchResult, item: Item) -> BatchResult:
        """The result of an identical prompt as that of this item."""
        copy = dataclasses.replace(
            result, custom_id=item.custom_id, index=item.index, attempts=0, elapsed=0.0, reused=True
        )
        return self._record(item, copy)

    def _record(self, item: Item, result: BatchResult) -> BatchResult:
        self._recorder.record(item, result)
        self._meter.count(result)
        return result

    # --- stopping -----------------------------------------------------------------------------

    def _stop(self, error: BaseException) -> None:
        """Send nothing more; the error is raised once nothing is in flight."""
        self._stop_error = self._stop_error or error
        self._advance(BatchState.STOPPING)
        self._backend.stop()

    def _interrupt(self) -> None:
        """After Ctrl-C: wait for the requests in flight, or cancel them after a second Ctrl-C."""
        if self._state in (BatchState.NEW, BatchState.CLOSED):
            return
        self._events.interrupt()
        try:
            self._advance(BatchState.STOPPING)
            finish_or_cancel(self._backend, announce=self._progress.shown)
        finally:
            self.close()
            if self._progress.shown and self._journal is not None:
                print(wrapped(self._how_to_continue()), file=sys.stderr)

    def _how_to_continue(self) -> str:
        if self._journal is None:
            return ""
        finished = f"Finished results are in {self._journal.path}"
        if not self._journal.has_answers:
            finished = "No prompt was answered"
        return f"{finished}; run the same again to continue."

    def _draw(self, *, now: bool = False) -> None:
        self._progress.update(self._meter.summary, self._meter.waiting, now=now)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._interrupt()
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def __repr__(self) -> str:
        return f"<Batch {self._state.name.lower()}: {self._meter.summary}>"
