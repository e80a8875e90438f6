"""The wire format of a batch on an executor: shards of prompts, and their results.

A shard is one ``bytes`` value with prompts and settings. The secret and the password are not in it:
a worker reads its own environment, or calls a ``client_factory``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from .._arguments import check_number
from .._routing import requester_from_dict
from ..errors import AIChatFreeError
from ._prompts import Item, Items, PromptSource
from ._results import BatchResult
from ._tables.row_prompts import RowPrompts

MAX_SHARD_SIZE: Final = 100_000
MAX_WORKERS: Final = 10_000
"""Their stacks have the usual size: with less than 2 MB, Python 3.13 crashes while it reads deeply
nested JSON. Only what a thread uses of its stack is in memory, about 40 KB with its connection."""

INTERRUPTED: Final = "interrupted"
"""Why a worker stopped that got a Ctrl-C."""


class PortableClient(Protocol):
    """A ``Client``, as far as :func:`make_shards` needs it."""

    def to_dict(self, share: float) -> dict[str, Any]:
        """The settings as plain data, without secrets."""
        ...


def make_shards(
    client: PortableClient,
    prompts: PromptSource,
    *,
    shard_size: int = 64,
    max_workers: int = 16,
    parallel: int = 1,
    template: str | None = None,
    column: str | None = None,
    id: str | None = None,
    skip_empty: bool = False,
) -> Iterator[bytes]:
    """Split prompts into shards for :func:`run_shard`, for systems without an ``Executor``.

    >>> from aichatfree.batch import make_shards, read_results, run_shard
    >>> for shard in make_shards(client, ["Name a river.", "Name a lake."], shard_size=1):
    ...     print([result.text for result in read_results(run_shard(shard))])
    ['The Nile.']
    ['Lake Baikal.']

    Args:
        client: the ``Client`` whose settings are put into the shards, without its secrets.
        prompts: as for ``Client.batch``; if they are rows, so are ``template``, ``column``, ``id``
            and ``skip_empty``.
        shard_size: prompts in a shard.
        max_workers: threads for each shard.
        parallel: shards in flight at a time; the client's rate limit is divided among them.

    Raises:
        TypeError, ValueError: a prompt cannot be sent or made, or a setting of the client cannot
            be put into a shard.
    """
    check_number("shard_size", shard_size, min=1, max=MAX_SHARD_SIZE, integer=True)
    check_number("max_workers", max_workers, min=1, max=MAX_WORKERS, integer=True)
    check_number("parallel", parallel, min=1, integer=True)
    settings = client.to_dict(1 / parallel)
    check = requester_from_dict(settings).check_prompt
    rows = RowPrompts.from_arguments(template, column, id, skip_empty)
    items = iter(Items(prompts, check, rows))
    while shard := list(islice(items, shard_size)):
        for item in shard:
            if item.error is not None:
                raise item.error
        yield write_shard(shard, settings, max_workers)


@dataclass(frozen=True)
class Shard:
    """What a worker gets.

    Attributes:
        items: the prompts.
        settings: the driver's, for :func:`requester_from_dict`; empty if there is a factory.
        max_workers: threads to use.
    """

    items: list[Item]
    settings: Mapping[str, Any]
    max_workers: int


def write_shard(items: Iterable[Item], settings: Mapping[str, Any], max_workers: int) -> bytes:
    """A shard, for :func:`read_shard`."""
    shard = {
        # Some engines take two equal calls for the same one.
        "id": uuid.uuid4().hex,
        "settings": settings,
        "max_workers": max_workers,
        "items": [[item.index, item.custom_id, item.prompt, item.temperature] for item in items],
    }
    return json.dumps(shard, default=dict).encode()


def read_shard(shard: bytes) -> Shard:
    """The shard of :func:`write_shard`."""
    data = json.loads(shard)
    items = [Item(*fields) for fields in data["items"]]
    return Shard(items, data["settings"], data["max_workers"])


@dataclass(frozen=True)
class ShardResults:
    """What a worker returns.

    Attributes:
        results: of the prompts that it sent.
        unsent: index and custom_id of the other prompts.
        stopped: why there are such prompts, or ``None``.
    """

    results: list[BatchResult]
    unsent: list[tuple[int, str]]
    stopped: str | None

    def to_bytes(self) -> bytes:
        """The results for :meth:`from_bytes` and :func:`read_results`."""
        data = {
            "results": [result.to_dict() for result in self.results],
            "unsent": self.unsent,
            "stopped": self.stopped,
        }
        return json.dumps(data).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardResults:
        """The results of :meth:`to_bytes`."""
        value = json.loads(data)
        results = [BatchResult.from_dict(each) for each in value["results"]]
        return cls(results, [tuple(each) for each in value["unsent"]], value["stopped"])


def read_results(answer: bytes) -> list[BatchResult]:
    """The results that :func:`run_shard` returned: one for each prompt of the shard, in order.

    If a prompt was not sent, because every prompt would have failed or the worker was interrupted,
    its error is an ``AIChatFreeError`` that says so.
    """
    shard = ShardResults.from_bytes(answer)
    results = list(shard.results)
    for index, custom_id in shard.unsent:
        error = AIChatFreeError(f"This prompt was not sent: {shard.stopped}")
        results.append(BatchResult(custom_id, index, error=error))
    return sorted(results, key=lambda result: result.index)
