"""``Batch``: feeds the items, puts the results in order, keeps them, and knows when to stop."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from .._rate_limiter import RateLimiter
from ..errors import AIChatFreeError
from ._journal import Journal
from ._progress import Progress
from ._records import BatchResult, Item
from ._threads import Outcome, Pool

_POLL: Final = 0.2  # seconds; how often waiting looks at the clock, the journal and the bar
_SLOW_INPUT: Final = 0.001  # seconds
_LAST_WAIT: Final = 1.0  # seconds for threads to notice that they were broken off


@dataclass
class Summary:
    """What a batch has done so far.

    >>> print(client.batch(["Name a river."]).run())
    1 answered, 0 failed, ... s, ... a second

    Attributes:
        answered: items answered by this run.
        failed: items without a whole answer.
        reused: answers of an earlier run, or of identical prompts.
        elapsed: seconds since the start.
        waited: seconds that requests waited for the site's limit, all threads together.
        complete: whether every prompt was dealt with.
    """

    answered: int = 0
    failed: int = 0
    reused: int = 0
    elapsed: float = 0.0
    waited: float = 0.0
    complete: bool = False

    @property
    def done(self) -> int:
        """Items that are dealt with."""
        return self.answered + self.failed + self.reused

    @property
    def rate(self) -> float:
        """Items answered a second."""
        return self.answered / self.elapsed if self.elapsed else 0.0

    def __str__(self) -> str:
        counts = [f"{self.answered} answered", f"{self.failed} failed"]
        counts += [f"{self.reused} reused"] * bool(self.reused)
        counts += [f"{self.elapsed:.1f} s", f"{self.rate:.1f} a second"]
        counts += [f"{self.waited:.1f} s waited for the limit"] * (self.waited >= 0.05)
        return ", ".join(counts)


class Batch(Iterator[BatchResult]):
    """The results of a batch, one by one. Nothing is sent before the first is asked for.

    Use it as a context manager, or iterate to the end: otherwise its threads go on with what
    they have in hand. Ctrl-C stops sending, keeps what is finished and under way, and a second
    one breaks that off too.

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
        pool: Callable[[], Pool],
        keep: Callable[[Item, BatchResult], None],
        reason_to_stop: Callable[[], str | None],
        *,
        total: int | None = None,
        ordered: bool = True,
        journal: Journal | None = None,
        progress: bool | None = None,
        dedupe: bool = False,
        rate_limiter: RateLimiter,
    ) -> None:
        self._items = items
        self._make_pool = pool
        self._pool: Pool | None = None
        self._total = total
        self._ordered = ordered
        self._journal = journal
        self._show = progress
        self._progress: Progress | None = None
        self._keep = keep
        self._reason_to_stop = reason_to_stop
        self._rate_limiter = rate_limiter
        self._summary = Summary()
        self._started = 0.0
        self._waited_before = 0.0
        self._ended = False
        self._in_hand = 0  # items pulled whose results have not been handed over
        self._under_way = 0  # items that the pool has
        self._no_more_items = False
        self._buffer: dict[int, BatchResult] = {}
        self._next_index = 0
        self._ready: deque[BatchResult] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._same: dict[str, BatchResult | list[Item]] | None = {} if dedupe else None
        self._why_stopped: BaseException | None = None

    @property
    def summary(self) -> Summary:
        """What has been done so far."""
        if self._started and not self._ended:
            self._measure()
        return self._summary

    def run(self) -> Summary:
        """Go through all results without looking at them; those who want the file only need this.

        Raises:
            AIChatFreeError: the run was stopped; what is finished is kept.
        """
        for _ in self:
            pass
        return self.summary

    def __next__(self) -> BatchResult:
        try:
            return self._next()
        except KeyboardInterrupt:
            self._interrupt()
            raise
        except BaseException:
            self.close()
            raise

    def _next(self) -> BatchResult:
        if self._ended:
            raise StopIteration
        if self._pool is None:
            self._start()
        assert self._pool is not None
        while not self._ready:
            if self._ended:
                raise AIChatFreeError("The batch was closed by another thread.")
            if self._why_stopped is None:
                self._feed(self._pool)
            if self._ready:
                break
            if self._under_way == 0:
                self._ready.extend(self._take_buffer())
                if self._ready:
                    break  # finished behind one that a stopped run did not come to
                if self._why_stopped is not None:
                    raise self._why_stopped
                self._summary.complete = True
                raise StopIteration
            self._wait(self._pool)
        self._in_hand -= 1
        if self._progress is not None:
            self._progress.make_room()
        return self._ready.popleft()

    def drain(self) -> list[BatchResult]:
        """Results that are finished and were not handed over; for after an interruption."""
        rest = [*self._ready, *self._take_buffer()]
        self._ready.clear()
        return rest

    def _take_buffer(self) -> list[BatchResult]:
        rest = [self._buffer[index] for index in sorted(self._buffer)]
        self._buffer.clear()
        return rest

    def _start(self) -> None:
        self._rate_limiter.begin_run()
        self._waited_before = self._rate_limiter.total_wait
        self._started = time.monotonic()
        self._pool = self._make_pool()  # which may log a line, so the bar comes after it
        self._progress = Progress(self._show, self._total)

    def _feed(self, pool: Pool) -> None:
        """Pull inputs until the pool has as much in hand as it can use."""
        try:
            while not self._no_more_items and self._in_hand < pool.capacity:
                asked = time.monotonic()
                self._pull(pool)
                if time.monotonic() - asked > _SLOW_INPUT:
                    self._outcomes.extend(pool.get(0))
                    if self._outcomes:
                        return  # results do not wait for an input that takes its time
        except Exception as error:
            self._no_more_items = True
            self._stop(error)  # raised when what is under way is finished
        if self._no_more_items:
            pool.flush()

    def _pull(self, pool: Pool) -> None:
        item = next(self._items, None)
        if item is None:
            self._no_more_items = True
            return
        known = self._settled(item)
        self._in_hand += 1
        if known is not None:
            self._hand_over(known)
        elif not self._join_same(item):
            pool.submit(item)
            self._under_way += 1

    def _settled(self, item: Item) -> BatchResult | None:
        """The result of an item that need not be sent."""
        if item.error is not None:
            result = BatchResult(item.custom_id, item.index, error=item.error)
            self._keep(item, result)
            self._count(result)
            return result
        earlier = self._journal.earlier(item) if self._journal is not None else None
        if earlier is not None:
            self._count(earlier)
        return earlier

    def _join_same(self, item: Item) -> bool:
        """Let an identical prompt of this run answer the item too, if there is one."""
        if self._same is None:
            return False
        digest = item.digest()
        first = self._same.setdefault(digest, [])
        if isinstance(first, BatchResult):
            self._hand_over(self._copy(first, item))
            return True
        first.append(item)
        return len(first) > 1

    def _copy(self, first: BatchResult, item: Item) -> BatchResult:
        result = BatchResult(item.custom_id, item.index, first.text, first.error, reused=True)
        self._keep(item, result)
        self._count(result)
        return result

    def _wait(self, pool: Pool) -> None:
        """Take what the pool has finished, and see to the things that have to be done in time."""
        self._outcomes.extend(pool.get(0 if self._outcomes else _POLL))
        while self._outcomes:
            self._take(self._outcomes.popleft())
        if self._journal is not None:
            self._journal.sync(every=1.0)
        self._draw()
        reason = self._reason_to_stop() if self._why_stopped is None else None
        if reason is not None:
            self._stop(AIChatFreeError(f"Stopped {reason} {self._how_to_go_on()}".rstrip()))

    def _take(self, outcome: Outcome) -> None:
        item, result = outcome
        self._under_way -= 1
        if not isinstance(result, BatchResult):
            self._in_hand -= 1
            if result is not None:
                self._stop(result)
            return
        self._count(result)
        self._hand_over(result)
        if self._same is not None:
            followers = self._same.pop(item.digest(), [])
            if result.ok:
                self._same[item.digest()] = result
            assert isinstance(followers, list)
            for follower in followers[1:]:
                self._hand_over(self._copy(result, follower))

    def _count(self, result: BatchResult) -> None:
        if result.error is not None:
            self._summary.failed += 1
        elif result.reused:
            self._summary.reused += 1
        else:
            self._summary.answered += 1

    def _hand_over(self, result: BatchResult) -> None:
        if not self._ordered:
            self._ready.append(result)
            return
        self._buffer[result.index] = result
        while self._next_index in self._buffer:
            self._ready.append(self._buffer.pop(self._next_index))
            self._next_index += 1

    def _stop(self, why: BaseException) -> None:
        """Send nothing more; the reason is raised when what is under way is finished."""
        self._why_stopped = self._why_stopped or why
        assert self._pool is not None
        self._pool.stop()

    def _how_to_go_on(self) -> str:
        if self._journal is None:
            return ""
        return f"What is finished is in {self._journal.path}; run the same again to go on."

    def _interrupt(self) -> None:
        """Ctrl-C: let what is under way come to its end, unless there is a second one."""
        if self._pool is None or self._ended:
            return
        shown = self._progress is not None and self._progress.shown
        try:
            # Threads are waited for, not results counted: the signal may have lost one of them.
            self._pool.stop()
            if shown:
                print("\nStopping; Ctrl-C again breaks off what is under way.", file=sys.stderr)
            self._pool.close()
        except KeyboardInterrupt:
            self._pool.cancel()
        finally:
            self.close()
            if shown and self._journal is not None:
                print(self._how_to_go_on(), file=sys.stderr)

    def close(self) -> None:
        """Break off what is under way, and end the threads; what is finished is kept."""
        if self._ended:
            return
        self._measure()
        self._ended = True
        try:
            if self._pool is not None:
                if self._under_way:
                    self._pool.cancel()
                self._pool.close(_LAST_WAIT)
                self._outcomes.extend(self._pool.get(0))
                while self._outcomes:
                    self._take(self._outcomes.popleft())
        finally:
            if self._progress is not None:
                self._draw(now=True)
                self._progress.close()
            if self._journal is not None:
                self._journal.close()

    def _measure(self) -> None:
        self._summary.elapsed = time.monotonic() - self._started if self._started else 0.0
        self._summary.waited = self._rate_limiter.total_wait - self._waited_before

    def _draw(self, *, now: bool = False) -> None:
        if self._progress is not None and self._progress.shown:
            summary = self._summary
            self._progress.update(summary.done, summary.failed, self._rate_limiter.waiting, now=now)

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._interrupt()
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def __repr__(self) -> str:
        return f"<Batch: {self._summary}>"
