"""A batch on an executor: prompts travel in shards, and each worker answers its own in threads.

A shard is one ``bytes`` value with prompts and settings. The secret and the password are not in it:
a worker reads its own environment, or calls the factory that it was given.
"""

from __future__ import annotations

import json
import pickle
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from itertools import islice
from typing import TYPE_CHECKING, Any

from .._requester import Requester
from ..errors import AIChatFreeError, APIError, error_from_dict
from ._records import BatchResult, Item
from ._threads import Outcome, wait_in_pieces

if TYPE_CHECKING:
    from ..client import Client
    from ._batch import Batch

ClientFactory = Callable[[], "Client"]


# --- what travels -----------------------------------------------------------------------------


def make_shard(settings: Mapping[str, Any], items: Iterable[Item], max_workers: int) -> bytes:
    """Prompts and settings as one value for :func:`run_shard`."""
    shard = {
        # Some engines take equal calls for the same one.
        "id": uuid.uuid4().hex,
        "settings": settings,
        "max_workers": max_workers,
        "items": [[item.index, item.custom_id, item.prompt, item.temperature] for item in items],
    }
    return json.dumps(shard, default=dict).encode()


def run_shard(shard: bytes, client_factory: ClientFactory | None = None) -> bytes:
    """Answer one shard; this is what an executor's worker, or a Spark or Ray task, calls.

    Args:
        shard: from :func:`make_shards`.
        client_factory: makes the client, where the settings in the shard and the worker's
            environment (``AICHATFREE_SECRET``, ``AICHATFREE_PASSWORD``) are not enough.

    Returns:
        The results, for :func:`read_results`.
    """
    order = json.loads(shard)
    settings = None if client_factory else json.dumps(order["settings"], sort_keys=True)
    stopped: str | None = None
    results: list[BatchResult] = []
    # Not as a list, which would be checked as a whole first: that has been done.
    records = (
        {"custom_id": custom_id, _kind(prompt): prompt, "temperature": temperature}
        for _, custom_id, prompt, temperature in order["items"]
    )
    with _borrowed_client(settings, client_factory) as client:
        batch = _open_batch(client, records, order["max_workers"])
        try:
            results.extend(batch)
        except AIChatFreeError as error:
            stopped = str(error)
        except KeyboardInterrupt:  # a terminal sends it to workers too
            stopped = "interrupted"
        results += batch.drain()
    rows = {result.custom_id: _row(result) for result in results}
    answer = {
        "results": [
            {**rows[custom_id], "index": index}
            for index, custom_id, _, _ in order["items"]
            if custom_id in rows
        ],
        "undone": [
            [index, custom_id] for index, custom_id, _, _ in order["items"] if custom_id not in rows
        ],
        "stopped": stopped,
    }
    return json.dumps(answer).encode()


def _open_batch(client: Client | Requester, records: Any, max_workers: int) -> Batch:
    if not isinstance(client, Requester):
        return client.batch(records, max_workers=max_workers, ordered=False, progress=False)
    from ._start import start_batch

    return start_batch(
        client,
        records,
        max_workers=max_workers,
        ordered=False,
        output=None,
        resume=True,
        executor=None,
        shard_size=64,
        progress=False,
        max_errors=None,
        dedupe=False,
        column=None,
        client_factory=None,
    )


def read_results(answer: bytes) -> list[BatchResult]:
    """The results that :func:`run_shard` gave, in order; one for each prompt of the shard.

    A prompt that it did not come to, because every one would have failed or it was interrupted, has
    an ``AIChatFreeError`` that says so.
    """
    value = json.loads(answer)
    results = [_result(row) for row in value["results"]]
    for index, custom_id in value["undone"]:
        error = AIChatFreeError(f"This prompt was not sent: {value['stopped']}")
        results.append(BatchResult(custom_id, index, error=error))
    return sorted(results, key=lambda result: result.index)


def _kind(prompt: object) -> str:
    return "prompt" if isinstance(prompt, str) else "messages"


def _row(result: BatchResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "custom_id": result.custom_id,
        "text": result.text,
        "attempts": result.attempts,
        "latency": result.latency,
    }
    if isinstance(result.error, APIError):
        row["error"] = result.error.to_dict()
    elif result.error is not None:
        row["error"] = {"type": type(result.error).__name__, "message": str(result.error)}
    return row


def _result(row: dict[str, Any]) -> BatchResult:
    failure = row.pop("error", None)
    error = None if failure is None else error_from_dict(failure)
    return BatchResult(**row, error=error)


# --- the worker's side ------------------------------------------------------------------------


_idle_clients: dict[Any, list[Client | Requester]] = {}
_idle_lock = threading.Lock()


class _borrowed_client:  # noqa: N801  (a context manager)
    """A client that no other shard of this process uses now, with its connections still warm.

    Clients are not shared by shards, because each shard has its own share of the limit.
    """

    def __init__(self, settings: str | None, factory: ClientFactory | None) -> None:
        # By value: a factory that travelled is another object each time.
        self._key: Any = settings if settings is not None else _value_of(factory)
        self._settings, self._factory = settings, factory

    def __enter__(self) -> Client | Requester:
        with _idle_lock:
            idle = _idle_clients.setdefault(self._key, [])
            client = idle.pop() if idle else None
        if client is None and self._factory is not None:
            client = self._factory()
        self._client = client or Requester.from_dict(json.loads(self._settings or "{}"))
        return self._client

    def __exit__(self, *_: object) -> None:
        with _idle_lock:
            _idle_clients[self._key].append(self._client)


def _value_of(factory: object) -> object:
    try:
        return pickle.dumps(factory)
    except Exception:
        return id(factory)  # it did not travel, so it is the same object each time


# --- the driver's side ------------------------------------------------------------------------


def parallelism(executor: Executor) -> int:
    """How many shards an executor works on at once, as far as it tells."""
    workers = getattr(executor, "_max_workers", None)
    if isinstance(workers, int):
        return workers
    client = getattr(executor, "_client", None)  # dask's
    if client is not None and hasattr(client, "nthreads"):
        return max(1, int(sum(client.nthreads().values())))
    return 8


class Shards:
    """Answers items on an executor, which is never shut down here.

    Args:
        executor: any ``concurrent.futures.Executor``.
        make: makes a shard of some items.
        keep: is told each result as soon as it has come back.
        shard_size: items in a shard.
        parallel: how many shards the executor works on at once; as many again wait there, so
            that no worker is idle in between.
        client_factory: see :func:`run_shard`.
    """

    def __init__(
        self,
        executor: Executor,
        make: Callable[[list[Item]], bytes],
        keep: Callable[[Item, BatchResult], None],
        *,
        shard_size: int,
        parallel: int,
        client_factory: ClientFactory | None = None,
    ) -> None:
        self._executor = executor
        self._make = make
        self._keep = keep
        self._shard_size = shard_size
        self._parallel = parallel
        self._client_factory = client_factory
        self._stopping = False
        self._put_by: list[Item] = []
        self._sent: dict[Future[bytes], list[Item]] = {}
        self._back: queue.SimpleQueue[Future[bytes]] = queue.SimpleQueue()
        self._undone: list[Outcome] = []
        self.capacity: int = 2 * parallel * shard_size

    def submit(self, item: Item) -> None:
        self._put_by.append(item)
        if len(self._put_by) == self._shard_size:
            self.flush()

    def flush(self) -> None:
        if not self._put_by:
            return
        items, self._put_by = self._put_by, []
        try:
            future = self._executor.submit(run_shard, self._make(items), self._client_factory)
        except Exception as error:
            self._undone += _broken(items, error)
            return
        self._sent[future] = items
        future.add_done_callback(self._back.put)

    def get(self, timeout: float) -> list[Outcome]:
        if self._put_by and not self._sent:
            self.flush()  # nothing else would ever fill the shard
        outcomes, self._undone = self._undone, []
        if outcomes:
            return outcomes
        try:
            future = self._back.get(timeout=timeout)
        except queue.Empty:
            return []
        return self._taken(future)

    def _taken(self, future: Future[bytes]) -> list[Outcome]:
        items = self._sent.pop(future)
        try:
            answer = json.loads(future.result())
        except CancelledError as error:
            if not self._stopping:
                return _broken(items, error)
            return [(item, None) for item in items]
        except BaseException as error:  # what a worker raised, a KeyboardInterrupt of its own too
            return _broken(items, error)
        return list(self._outcomes(items, answer))

    def _outcomes(self, items: list[Item], answer: dict[str, Any]) -> Iterator[Outcome]:
        results = {row["index"]: _result(row) for row in answer["results"]}
        for item in items:
            result = results.get(item.index)
            if result is not None:
                self._keep(item, result)
                yield item, result
            elif answer["stopped"] == "interrupted":
                yield item, None
            else:
                yield item, AIChatFreeError(answer["stopped"] or "A worker left it out.")

    def stop(self) -> None:
        self._stopping = True
        self._undone += [(item, None) for item in self._put_by]
        self._put_by = []
        # The oldest are at work, and some engines would let us cancel even those.
        for future in list(self._sent)[self._parallel :]:
            future.cancel()

    def cancel(self) -> None:
        self.stop()
        for future in list(self._sent):
            future.cancel()

    def close(self, timeout: float | None = None) -> None:
        sent = list(self._sent)
        wait_in_pieces([lambda seconds: not futures.wait(sent, seconds).not_done], timeout)
        while not self._back.empty():
            self._undone += self._taken(self._back.get())


def _broken(items: list[Item], error: BaseException) -> list[Outcome]:
    if isinstance(error, BrokenExecutor):
        why = "A worker died and its pool with it: make a new executor and run it again."
    else:
        why = f"The executor failed ({type(error).__name__}: {error})."
    broken = AIChatFreeError(why)
    broken.__cause__ = error
    return [(item, broken) for item in items]


def in_shards(items: Iterator[Item], shard_size: int) -> Iterator[list[Item]]:
    """The items in lists of this size; the last one may be shorter."""
    while shard := list(islice(items, shard_size)):
        yield shard
