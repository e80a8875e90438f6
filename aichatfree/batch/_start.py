"""Puts a batch together: the arguments are checked, the journal opened, the workers chosen."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from .._arguments import check_number
from .._cancellation import CancelToken
from .._deadlines import Call
from .._requester import Requester
from ..errors import APIConnectionError, APIError, PermissionDeniedError
from ..retry import RetryPolicy
from ._batch import Batch
from ._journal import Journal, files_of
from ._records import (
    BatchResult,
    Item,
    PromptSource,
    can_be_read_again,
    check_all,
    digest_of,
    items_from,
)
from ._retries import batch_retrying, is_deferred
from ._shards import (
    ClientFactory,
    Shards,
    in_shards,
    make_shard,
    parallelism,
)
from ._threads import Pool, PutBy, Threads

if TYPE_CHECKING:
    from ..client import Client

MAX_WORKERS = 1024

_UNREACHABLE = 32
"""Failures to get through to the site, with no answer between them, that end a run."""

log: Final = logging.getLogger("aichatfree.batch")


def start_batch(
    requester: Requester,
    prompts: PromptSource,
    *,
    max_workers: int,
    ordered: bool,
    output: str | os.PathLike[str] | None,
    resume: bool,
    executor: Executor | None,
    shard_size: int,
    progress: bool | None,
    max_errors: int | None,
    dedupe: bool,
    column: str | None,
    client_factory: ClientFactory | None,
) -> Batch:
    """See :meth:`Client.batch`."""
    check_number("max_workers", max_workers, min=1, max=MAX_WORKERS, integer=True)
    check_number("shard_size", shard_size, min=1, max=100_000, integer=True)
    if max_errors is not None:
        check_number("max_errors", max_errors, min=0, integer=True)
    if executor is not None:
        _check_executor(requester, executor, client_factory)
    elif client_factory is not None:
        raise ValueError("client_factory= goes with executor=")
    _check_output(prompts, output)
    items = _Items(requester, prompts, column)
    total = check_all(items) if can_be_read_again(prompts) else None
    journal = Journal(output, _answers_depend_on(requester), resume=resume) if output else None
    if journal is not None and total is not None:
        try:
            journal.check_prompts(items)
        except ValueError:
            journal.close()
            raise
    answering = _Answering(requester, journal, max_errors)

    def pool() -> Pool:
        if executor is None:
            return Threads(answering.answer, max_workers, answering.stopping, answering.cancel)
        return _shards(requester, executor, shard_size, max_workers, client_factory, answering.keep)

    return Batch(
        iter(items),
        pool,
        answering.keep,
        answering.reason_to_stop,
        total=total,
        ordered=ordered,
        journal=journal,
        progress=progress,
        dedupe=dedupe,
        rate_limiter=requester.rate_limiter,
    )


def make_shards(
    client: Client,
    prompts: PromptSource,
    *,
    shard_size: int = 64,
    max_workers: int = 16,
    parallel: int = 1,
    column: str | None = None,
) -> Iterator[bytes]:
    """The prompts as shards for :func:`run_shard`, for engines without an Executor.

    >>> from aichatfree.batch import make_shards, read_results, run_shard
    >>> for shard in make_shards(client, ["Name a river.", "Name a lake."], shard_size=1):
    ...     print([result.text for result in read_results(run_shard(shard))])
    ['The Nile.']
    ['Lake Baikal.']

    Args:
        client: whose settings travel, without its secrets.
        prompts: as for ``Client.batch``.
        shard_size: prompts in a shard.
        max_workers: threads for each shard.
        parallel: how many shards are answered at once; each gets that part of the client's limit.
        column: the column of a ``.csv`` file.

    Raises:
        TypeError, ValueError: a prompt, or the client's retry, cannot travel.
    """
    check_number("shard_size", shard_size, min=1, max=100_000, integer=True)
    check_number("max_workers", max_workers, min=1, max=MAX_WORKERS, integer=True)
    check_number("parallel", parallel, min=1, integer=True)
    settings = client.to_dict(1 / parallel)
    requester = Requester.from_dict(settings)
    for shard in in_shards(iter(_Items(requester, prompts, column)), shard_size):
        for item in shard:
            if item.error is not None:
                raise item.error
        yield make_shard(settings, shard, max_workers)


class _Items:
    """The items of a source, from the start each time they are iterated."""

    def __init__(self, requester: Requester, prompts: PromptSource, column: str | None) -> None:
        self._requester, self._prompts, self._column = requester, prompts, column

    def __iter__(self) -> Iterator[Item]:
        return items_from(self._prompts, self._requester.check_prompt, self._column)


class _Answering:
    """Answers items with a client, keeps the results, and sees when it is pointless to go on."""

    def __init__(
        self, requester: Requester, journal: Journal | None, max_errors: int | None
    ) -> None:
        self._requester = requester
        self._journal = journal
        self._failures_left = math.inf if max_errors is None else max_errors
        self._max_errors = max_errors
        self._hopeless: str | None = None
        self._unreachable = 0  # failures to get through since the last answer
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._calls: set[Call] = set()

    def answer(self, item: Item) -> BatchResult | PutBy | None:
        item.began = item.began or time.monotonic()
        call = Call(
            self._requester.settings.timeout,
            CancelToken(self.stopping),
            starts_with_first_request=True,
        )
        self._calls.add(call)
        text, failure = "", None
        try:
            reply = self._requester.answer(item.prompt, item.temperature, call, batch_retrying)
            text, attempts = reply.text, reply.attempts
        except APIError as error:
            if self.stopping.is_set():
                return None  # broken off by us, or not worth a note: the next run asks it again
            if is_deferred(error) and isinstance(self._requester.settings.retry, RetryPolicy):
                item.attempts += error.attempts
                return PutBy(error.retry_after or 0.0)
            text, failure, attempts = error.partial_text, error, error.attempts
        finally:
            self._calls.discard(call)
        result = BatchResult(
            item.custom_id,
            item.index,
            text,
            failure,
            item.attempts + attempts,
            time.monotonic() - item.began,
        )
        self.keep(item, result)
        return result

    def keep(self, item: Item, result: BatchResult) -> None:
        """Write the result down; called by whichever thread has it first."""
        if self._journal is not None:
            self._journal.append(item, result)
        if result.error is None:
            self._unreachable = 0
        else:
            self._judge(result.error)

    def _judge(self, error: Exception) -> None:
        with self._lock:
            self._failures_left -= 1
            self._unreachable += isinstance(error, (APIConnectionError, PermissionDeniedError))
            self._hopeless = self._hopeless or self._why_hopeless(error)
        if self._hopeless is not None:
            self.stopping.set()

    def _why_hopeless(self, error: Exception) -> str | None:
        if self._unreachable >= _UNREACHABLE:
            return f"because the last {self._unreachable} prompts did not get through: {error}"
        if isinstance(error, APIError) and error.fatal:
            return f"because every prompt would fail like this one: {error}"
        if self._failures_left < 0:
            return f"because more than {self._max_errors} prompts failed; the last one: {error}"
        return None

    def reason_to_stop(self) -> str | None:
        """Why nothing more should be sent, to follow the word "stopped"; or ``None``."""
        exhausted = self._requester.rate_limiter.exhausted
        if exhausted is not None and self._hopeless is None:
            return f"because the site's quota seems to be used up: {exhausted}"
        return self._hopeless

    def cancel(self) -> None:
        for call in list(self._calls):
            call.cancel_token.set()


def _shards(
    requester: Requester,
    executor: Executor,
    shard_size: int,
    max_workers: int,
    client_factory: ClientFactory | None,
    keep: Any,
) -> Shards:
    parallel = parallelism(executor)
    settings = {} if client_factory is not None else requester.to_dict(1 / parallel)
    limit = settings.get("connection", {}).get("max_requests_per_minute")
    if limit is not None:
        log.info("each of %d shards at work keeps to %.1f requests a minute", parallel, limit)
    return Shards(
        executor,
        lambda items: make_shard(settings, items, max_workers),
        keep,
        shard_size=shard_size,
        parallel=parallel,
        client_factory=client_factory,
    )


def _check_executor(
    requester: Requester, executor: object, client_factory: ClientFactory | None
) -> None:
    if not isinstance(executor, Executor):
        raise TypeError(
            f"executor= takes a concurrent.futures.Executor, not {type(executor).__name__}; a dask "
            "client has one: client.get_executor()"
        )
    if client_factory is None:
        requester.check_portable()
    elif requester.rate_limiter.max_requests_per_minute is not None:
        raise ValueError(
            "max_requests_per_minute does not reach the clients of client_factory=: set it there, "
            "divided by the number of shards at work"
        )


def _check_output(prompts: object, output: object) -> None:
    if output is None:
        return
    if not isinstance(output, (str, os.PathLike)) or not str(output):
        raise TypeError(f"output= takes a path, not {type(output).__name__}")
    if Path(output).suffix != ".jsonl":
        raise ValueError(f"output={str(output)!r} must end with .jsonl, which is what it will be")
    if isinstance(prompts, (str, os.PathLike)):
        own = {path.resolve() for path in files_of(Path(output))}
        if Path(prompts).resolve() in own:
            raise ValueError("output= would overwrite the file with the prompts: name another one")


def _answers_depend_on(requester: Requester) -> dict[str, Any]:
    """What makes answers different, by the names under which users know it."""
    settings = requester.settings
    host = urlsplit(settings.site.base_url).hostname or ""
    here = host == "localhost" or host.startswith("127.") or host == "::1"
    return {
        "site": "this machine" if here else settings.site.base_url,
        "dialect": settings.site.dialect.name,
        "model": settings.model or settings.site.default_model,
        # As a digest: what differs is found out, and the text is in no file.
        "system": None if settings.system is None else digest_of(settings.system),
    }
