"""What goes into a batch: items, and the prompts or rows that they are made of."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from .._prompt_rejections import PromptRejections
from .._protocol.messages import Prompt, replace_surrogates
from ._tables.frames import Frame
from ._tables.inputs import columns_of
from ._tables.row_prompts import RowPrompts
from ._tables.sources import read_inputs
from ._tables.template import EmptyCellError

PromptSource: TypeAlias = "Iterable[Prompt | Mapping[str, Any]] | Frame | str | os.PathLike[str]"
"""Where the prompts of a batch come from.

- An iterable, which may be lazy or endless, of strings, message lists, and dicts with ``prompt`` or
  ``messages`` and optionally ``custom_id`` and ``temperature``; lines of an OpenAI batch file work
  too.
- The path of a ``.jsonl`` file with one of these on each line, or of a ``.txt`` file with a prompt
  on each line.
- Rows, for ``template=`` or ``column=``: the path of a ``.csv``, ``.tsv``, ``.parquet`` or
  ``.jsonl`` file, a frame of pandas or Polars, or an iterable of dicts.
"""

Check: TypeAlias = Callable[[Prompt, Any], object]

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Item:
    """One prompt of a batch.

    Attributes:
        index: its position in the input, from 0.
        custom_id: its own id, or its position as text.
        prompt: what to ask.
        temperature: the randomness of the answer, or ``None``.
        error: why the input cannot be sent, in which case there is no prompt; or ``None``.
        attempts: requests that were sent for it before it was last deferred.
        rejections: those of its requests so far.
        started: when a worker first took it (monotonic clock), or 0.
    """

    index: int
    custom_id: str
    prompt: Prompt
    temperature: float | None = None
    error: Exception | None = None
    attempts: int = 0
    rejections: PromptRejections = field(default_factory=PromptRejections)
    started: float = 0.0

    def digest(self) -> str:
        """A digest of the prompt and the temperature, the same in every run."""
        prompt = self.prompt
        if not isinstance(prompt, str):
            prompt = [{"role": m["role"], "content": m["content"]} for m in prompt]
        return digest_of([prompt, self.temperature])


def digest_of(value: object) -> str:
    """A digest of a value, the same in every run; the value cannot be read from it."""
    text = json.dumps(value, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Items:
    """The items of a source, read from its start by each iterator.

    An input that cannot be sent becomes an item with an error, so that the others are still sent.

    Args:
        source: an iterable of strings, message lists or dicts, a frame, or the path of a file.
        check: raises TypeError or ValueError for a prompt and temperature that cannot be sent.
        rows: how prompts are made if the inputs are rows.
    """

    def __init__(self, source: PromptSource, check: Check, rows: RowPrompts) -> None:
        self.source = source
        self._check = check
        self._rows = rows

    def __iter__(self) -> Iterator[Item]:
        """Begin to read.

        Raises:
            TypeError, ValueError, OSError: the source as a whole cannot be read.
            ImportError: it needs an extra that is not installed.
        """
        return (item for _, item in self.with_inputs() if item is not None)

    def with_inputs(self) -> Iterator[tuple[Any, Item | None]]:
        """Begin to read, with each input beside its item; a row that is skipped has none.

        Raises: as ``__iter__``.
        """
        inputs = read_inputs(self.source)
        return self._items(inputs.each, self._rows.of(inputs))

    def _items(
        self, inputs: Iterable[tuple[str, Any]], rows: RowPrompts
    ) -> Iterator[tuple[Any, Item | None]]:
        ids = _Ids()
        for index, (place, value) in enumerate(inputs):
            custom_id = str(index)
            try:
                record = rows.record(value)
                own_id, prompt, temperature = None, record, None
                if not isinstance(record, (str, list, tuple)):
                    own_id, prompt, temperature = _read_record(record)
                custom_id = own_id or custom_id
                ids.add(custom_id, own=own_id is not None)
                self._check(prompt, temperature)
            except (TypeError, ValueError) as error:
                if rows.skip_empty and isinstance(error, EmptyCellError):
                    yield value, None
                    continue
                # Never a subclass: the constructor of UnicodeError takes other arguments.
                kind = TypeError if isinstance(error, TypeError) else ValueError
                yield value, Item(index, custom_id, "", error=kind(f"{place}: {error}"))
            else:
                yield value, Item(index, custom_id, prompt, temperature)

    @property
    def file(self) -> Path | None:
        """The file that is read, or ``None``."""
        return Path(self.source) if isinstance(self.source, (str, os.PathLike)) else None

    def with_absolute_path(self) -> Items:
        """The same items, also after the current directory has changed."""
        source = self.source if self.file is None else self.file.absolute()
        return Items(source, self._check, self._rows)

    def columns(self) -> Sequence[str]:
        """The columns of the inputs; only for a source that can be read again.

        Raises:
            ValueError: there are too many.
        """
        return columns_of(read_inputs(self.source))

    def check_all(self) -> int:
        """Check all inputs before anything is sent; only for a source that can be read again.

        Returns:
            The number of prompts.

        Raises:
            TypeError, ValueError: of the first input that cannot be sent, with its place.
        """
        count = skipped = 0
        for _, item in self.with_inputs():
            if item is None:
                skipped += 1
            elif item.error is not None:
                raise item.error
            else:
                count += 1
        if skipped:
            log.info("Rows that are skipped because of an empty cell: %d", skipped)
        if not count:
            raise ValueError("there are no prompts in the input")
        return count


class _Ids:
    """The ids in use, to find repetitions. An input without an id gets its position, from 0.

    Nothing is remembered until the first input has an id, so a plain source of any length needs no
    memory.
    """

    def __init__(self) -> None:
        self._positions = 0  # the ids "0", "1", ... below this number are in use as positions
        self._used: set[str] = set()

    def add(self, custom_id: str, *, own: bool) -> None:
        if not own and not self._used:
            self._positions = int(custom_id) + 1
            return
        is_number = re.fullmatch("0|[1-9][0-9]{0,17}", custom_id)
        if custom_id in self._used or (is_number and int(custom_id) < self._positions):
            raise ValueError(f"the custom_id {custom_id!r} is used twice")
        self._used.add(custom_id)


def _read_record(value: object) -> tuple[str | None, Any, float | None]:
    """The id, prompt and temperature of an input that is more than a prompt."""
    if isinstance(value, Exception):
        raise value
    if not isinstance(value, Mapping):
        raise TypeError(
            f"a prompt is a str, a list of messages or a dict, not {type(value).__name__}"
        )
    custom_id = value.get("custom_id")
    if custom_id is not None and (not isinstance(custom_id, str) or not custom_id):
        raise TypeError("custom_id must be a str that is not empty")
    body = value.get("body")  # a line of an OpenAI batch file
    record = body if isinstance(body, Mapping) else value
    given = [key for key in ("prompt", "messages") if record.get(key) is not None]
    if len(given) != 1:
        raise ValueError('a dict needs either "prompt" or "messages"')
    prompt = record[given[0]]
    if given == ["messages"]:
        prompt = [_join_parts(each) for each in prompt] if isinstance(prompt, list) else prompt
    return (
        custom_id if custom_id is None else replace_surrogates(custom_id),
        prompt,
        record.get("temperature"),
    )


def _join_parts(message: Any) -> Any:
    """A message with its text parts joined; OpenAI's format allows a list of them as content."""
    parts = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(parts, list):
        return message
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        raise ValueError("a message has content other than text")
    return {**message, "content": "".join(str(part.get("text", "")) for part in parts)}
