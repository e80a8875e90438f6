"""Puts a batch together: checks the arguments, opens the journal and chooses the backend."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from .._arguments import check_number
from .._prompt_sender import PromptSender
from ._backend import Backend
from ._batch import Batch
from ._circuit_breaker import CircuitBreaker
from ._events import RunEvents
from ._executor import ExecutorBackend, parallelism
from ._journal import Journal, files_of
from ._prompts import Items, PromptSource
from ._recorder import Recorder
from ._run_settings import settings_of
from ._table import check_table, is_table, journal_of, write_table_of_run
from ._tables.row_prompts import RowPrompts
from ._tables.sources import can_be_read_again
from ._threads import ThreadBackend, check_open_files
from ._worker import ClientFactory
from ._worker_messages import MAX_SHARD_SIZE, MAX_WORKERS, write_shard

log: Final = logging.getLogger(__name__)


def start_batch(
    requester: PromptSender,
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
    template: str | None,
    column: str | None,
    id: str | None,
    skip_empty: bool,
    client_factory: ClientFactory | None,
) -> Batch:
    """See :meth:`Client.batch`."""
    _check_numbers(max_workers, shard_size, max_errors)
    if executor is None:
        check_open_files(max_workers)
    _check_executor(requester, executor, client_factory)
    _check_output(prompts, output)
    rows = RowPrompts.from_arguments(template, column, id, skip_empty)
    items = Items(prompts, requester.check_prompt, rows)
    total = items.check_all() if can_be_read_again(prompts) else None
    known = items if total is not None else None
    unread = iter(items)
    with ExitStack() as on_error:
        journal = None
        if output is not None:
            depends_on = settings_of(requester)
            journal = _open_journal(Path(output), depends_on, resume, known)
            on_error.callback(journal.close)
        stopping = threading.Event()
        recorder = Recorder(CircuitBreaker(requester.rate_limiter, max_errors, stopping), journal)
        backend: Backend = ThreadBackend(requester, recorder, max_workers, stopping)
        if executor is not None:
            backend = _executor_backend(
                requester, recorder, executor, shard_size, max_workers, client_factory
            )
        on_error.pop_all()
    if journal is not None and output is not None:
        _write_table_at_end(journal, Path(output), known)
    return Batch(
        unread,
        backend,
        recorder,
        requester.rate_limiter,
        events=_events_of(requester, journal),
        inputs=known,
        total=total,
        ordered=ordered,
        progress=progress,
        dedupe=dedupe,
    )


def _executor_backend(
    requester: PromptSender,
    recorder: Recorder,
    executor: Executor,
    shard_size: int,
    max_workers: int,
    client_factory: ClientFactory | None,
) -> ExecutorBackend:
    parallel = parallelism(executor)
    limit = requester.rate_limiter.max_requests_per_minute
    if limit is not None:
        log.info(
            "each of %d shards in flight sends at most %.1f requests a minute",
            parallel,
            limit / parallel,
        )
    return ExecutorBackend(
        executor,
        partial(
            write_shard,
            settings={} if client_factory is not None else requester.to_dict(1 / parallel),
            max_workers=max_workers,
        ),
        recorder,
        shard_size=shard_size,
        parallel=parallel,
        client_factory=client_factory,
    )


def _check_numbers(max_workers: int, shard_size: int, max_errors: int | None) -> None:
    check_number("max_workers", max_workers, min=1, max=MAX_WORKERS, integer=True)
    check_number("shard_size", shard_size, min=1, max=MAX_SHARD_SIZE, integer=True)
    if max_errors is not None:
        check_number("max_errors", max_errors, min=0, integer=True)


def _check_executor(
    requester: PromptSender, executor: object, client_factory: ClientFactory | None
) -> None:
    if executor is None:
        if client_factory is not None:
            raise ValueError("client_factory= needs executor=")
        return
    if not isinstance(executor, Executor):
        raise TypeError(
            f"executor= takes a concurrent.futures.Executor, not {type(executor).__name__}; a dask "
            "client has one: client.get_executor()"
        )
    if client_factory is None:
        requester.to_dict()  # raises ValueError if the settings cannot be sent to a worker
    elif requester.rate_limiter.max_requests_per_minute is not None:
        raise ValueError(
            "max_requests_per_minute does not apply to the clients of client_factory=: set it "
            "there, divided by the number of shards in flight"
        )


def _check_output(prompts: object, output: object) -> None:
    if output is None:
        return
    if not isinstance(output, (str, os.PathLike)) or not str(output):
        raise TypeError(f"output= takes a path, not {type(output).__name__}")
    path = Path(output)
    if path.suffix != ".jsonl" and not is_table(path):
        raise ValueError(
            f"output={str(output)!r} must end with .jsonl, or .csv or .parquet for a table"
        )
    if isinstance(prompts, (str, os.PathLike)):
        own = {os.path.realpath(each) for each in (path, *files_of(journal_of(path)))}
        if os.path.realpath(prompts) in own:
            raise ValueError("output= would overwrite the file with the prompts: name another one")


def _open_journal(
    output: Path, depends_on: dict[str, Any], resume: bool, items: Items | None
) -> Journal:
    if is_table(output):
        check_table(output, items)
    with ExitStack() as on_error:
        journal = Journal(journal_of(output), depends_on, resume=resume)
        on_error.callback(journal.close)
        if items is not None:
            journal.check_prompts(items)
        on_error.pop_all()
    return journal


def _write_table_at_end(journal: Journal, output: Path, items: Items | None) -> None:
    """If the output is a table, let the journal write it when it is closed."""
    if is_table(output):
        # With absolute paths, because the current directory may change until then.
        of_table = None if items is None else items.with_absolute_path()
        journal.at_end = partial(write_table_of_run, output.absolute(), of_table)


def _events_of(requester: PromptSender, journal: Journal | None) -> RunEvents:
    """The log of events of a run."""
    limiters = {s.settings.site.base_url: s.rate_limiter for s in requester.requesters}
    return RunEvents(None if journal is None else journal.events, limiters)
