"""The executor backend: sends the items of a batch to the workers of an executor, in shards."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future

from ..errors import AIChatFreeError
from ._backend import Outcome, wait_interruptibly
from ._prompts import Item
from ._recorder import Recorder
from ._worker import ClientFactory, run_shard
from ._worker_messages import INTERRUPTED, ShardResults


def parallelism(executor: Executor) -> int:
    """How many shards an executor runs at a time, as far as it can be found out."""
    # Executors have no public attribute for this.
    workers = getattr(executor, "_max_workers", None)
    if isinstance(workers, int):
        return workers
    client = getattr(executor, "_client", None)  # Dask's
    if client is not None and hasattr(client, "nthreads"):
        return max(1, int(sum(client.nthreads().values())))
    return 8


class ExecutorBackend:
    """Answers items on an executor, which is never shut down here.

    Args:
        executor: any ``concurrent.futures.Executor``.
        write_shard: makes a shard of some items.
        recorder: gets each result as soon as its shard has come back.
        shard_size: items in a shard.
        parallel: shards that the executor runs at a time. As many again are queued there, so that
            no worker is idle in between.
        client_factory: see :func:`run_shard`.
    """

    def __init__(
        self,
        executor: Executor,
        write_shard: Callable[[list[Item]], bytes],
        recorder: Recorder,
        *,
        shard_size: int,
        parallel: int,
        client_factory: ClientFactory | None = None,
    ) -> None:
        self._executor = executor
        self._write_shard = write_shard
        self._recorder = recorder
        self._shard_size = shard_size
        self._parallel = parallel
        self._client_factory = client_factory
        self._stopping = False
        self._collected: list[Item] = []  # for the next shard
        self._in_flight: dict[Future[bytes], list[Item]] = {}
        self._done: queue.SimpleQueue[Future[bytes]] = queue.SimpleQueue()
        self._unsent: list[Outcome] = []
        self.capacity: int = 2 * parallel * shard_size

    def submit(self, item: Item) -> None:
        self._collected.append(item)
        if len(self._collected) == self._shard_size:
            self.flush()

    def flush(self) -> None:
        """Send the items that were collected so far, even if the shard is not full."""
        if not self._collected:
            return
        items, self._collected = self._collected, []
        try:
            shard = self._write_shard(items)
            future = self._executor.submit(run_shard, shard, self._client_factory)
        except Exception as error:
            self._unsent += _failed(items, error)
            return
        self._in_flight[future] = items
        future.add_done_callback(self._done.put)

    def get(self, timeout: float) -> list[Outcome]:
        if self._collected and not self._in_flight:
            self.flush()  # the batch waits for these, so nothing else would fill the shard
        outcomes, self._unsent = self._unsent, []
        if outcomes:
            return outcomes
        try:
            future = self._done.get(timeout=timeout)
        except queue.Empty:
            return []
        return self._outcomes_of(future)

    def stop(self) -> None:
        self._stopping = True
        self._unsent += [(item, None) for item in self._collected]
        self._collected = []
        # The oldest ones are running, and some engines would cancel even those.
        for future in list(self._in_flight)[self._parallel :]:
            future.cancel()

    def cancel(self) -> None:
        self.stop()
        for future in list(self._in_flight):
            future.cancel()

    def close(self, timeout: float | None = None) -> None:
        in_flight = list(self._in_flight)
        wait_interruptibly([lambda seconds: not futures.wait(in_flight, seconds).not_done], timeout)
        while not self._done.empty():
            self._unsent += self._outcomes_of(self._done.get())

    def _outcomes_of(self, future: Future[bytes]) -> list[Outcome]:
        items = self._in_flight.pop(future)
        try:
            shard = ShardResults.from_bytes(future.result())
        except CancelledError as error:
            if not self._stopping:
                return _failed(items, error)
            return [(item, None) for item in items]
        except BaseException as error:  # raised in the worker, KeyboardInterrupt included
            return _failed(items, error)
        return list(self._outcomes(items, shard))

    def _outcomes(self, items: list[Item], shard: ShardResults) -> Iterator[Outcome]:
        results = {result.index: result for result in shard.results}
        for item in items:
            result = results.get(item.index)
            if result is not None:
                self._recorder.record(item, result)
                yield item, result
            elif shard.stopped == INTERRUPTED:
                yield item, None
            else:
                yield item, AIChatFreeError(shard.stopped or "A worker did not answer this prompt.")


def _failed(items: list[Item], error: BaseException) -> list[Outcome]:
    if isinstance(error, BrokenExecutor):
        message = "A worker died and broke its executor: make a new executor and run it again."
    else:
        message = f"The executor failed ({type(error).__name__}: {error})."
    stop_error = AIChatFreeError(message)
    stop_error.__cause__ = error
    return [(item, stop_error) for item in items]
