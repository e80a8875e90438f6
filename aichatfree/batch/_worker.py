"""The worker's side of a batch on an executor: answers one shard."""

from __future__ import annotations

import dataclasses
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from .._prompt_sender import PromptSender
from .._routing import requester_from_dict
from ..errors import AIChatFreeError
from ._batch import Batch
from ._circuit_breaker import CircuitBreaker
from ._prompts import PromptSource
from ._recorder import Recorder
from ._results import BatchResult
from ._threads import ThreadBackend
from ._worker_messages import INTERRUPTED, Shard, ShardResults, read_shard


class BatchClient(Protocol):
    """A ``Client``, as far as a worker needs it."""

    def batch(
        self, prompts: PromptSource, *, max_workers: int, ordered: bool, progress: bool | None
    ) -> Batch:
        """See ``Client.batch``."""
        ...


ClientFactory: TypeAlias = Callable[[], BatchClient]

T = TypeVar("T")


def run_shard(shard: bytes, client_factory: ClientFactory | None = None) -> bytes:
    """Answer one shard; to be called by an executor's worker, or a task of Spark or Ray.

    Args:
        shard: one that :func:`make_shards` returned.
        client_factory: makes a ``Client``; needed only if the settings in the shard and the
            worker's environment (``AICHATFREE_SECRET``, ``AICHATFREE_PASSWORD``) are not enough.

    Returns:
        The results, for :func:`read_results`.
    """
    content = read_shard(shard)
    if client_factory is None:
        key: object = json.dumps(content.settings, sort_keys=True)
        with _borrowed(key, lambda: requester_from_dict(content.settings)) as requester:
            return _answer(content, _batch_of_requester(requester, content))
    with _borrowed(_value_of(client_factory), client_factory) as client:
        return _answer(content, _batch_of_client(client, content))


def _batch_of_requester(requester: PromptSender, shard: Shard) -> Batch:
    stopping = threading.Event()
    recorder = Recorder(CircuitBreaker(requester.rate_limiter, None, stopping))
    backend = ThreadBackend(requester, recorder, shard.max_workers, stopping)
    return Batch(
        iter(shard.items),
        backend,
        recorder,
        requester.rate_limiter,
        ordered=False,
        progress=False,
    )


def _batch_of_client(client: BatchClient, shard: Shard) -> Batch:
    # A generator: a list would be checked before anything is sent, which the driver has done.
    prompts = (
        {"custom_id": item.custom_id, "prompt": item.prompt, "temperature": item.temperature}
        for item in shard.items
    )
    return client.batch(prompts, max_workers=shard.max_workers, ordered=False, progress=False)


def _answer(shard: Shard, batch: Batch) -> bytes:
    results: list[BatchResult] = []
    stopped: str | None = None
    with batch:
        try:
            results.extend(batch)
        except AIChatFreeError as error:
            stopped = str(error)
        except KeyboardInterrupt:  # which a terminal sends to workers too
            stopped = INTERRUPTED
    results += batch.drain()
    found = {result.custom_id: result for result in results}
    return ShardResults(
        # A client's batch numbers its results by their place in the shard.
        [
            dataclasses.replace(found[item.custom_id], index=item.index)
            for item in shard.items
            if item.custom_id in found
        ],
        [(item.index, item.custom_id) for item in shard.items if item.custom_id not in found],
        stopped,
    ).to_bytes()


# --- requesters and clients that are used again -------------------------------------------------

MAX_IDLE: Final = 32

_idle: list[tuple[object, Any]] = []

# Guards _idle. Do not make a client while holding it: a factory may be slow.
_idle_lock = threading.Lock()


@contextmanager
def _borrowed(key: object, make: Callable[[], T]) -> Iterator[T]:
    """A requester or client that no other shard uses now, if possible with open connections.

    Shards do not share them, because each shard has its own part of the rate limit.

    Args:
        key: what is made with an equal key can be used again.
        make: makes a new one.
    """
    with _idle_lock:
        found = next((entry for entry in _idle if entry[0] == key), None)
        if found is not None:
            _idle.remove(found)
    borrowed = make() if found is None else found[1]
    try:
        yield borrowed
    finally:
        with _idle_lock:
            _idle.append((key, borrowed))
            del _idle[:-MAX_IDLE]


def _value_of(factory: ClientFactory) -> object:
    """A key for a factory: by value, because one that was sent here is a new object each time."""
    try:
        return pickle.dumps(factory)
    except Exception:
        return id(factory)  # it was not sent, so it is the same object each time
