"""What goes into a batch: items, and the iterables and files that they are read from."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

from .._prompt_rejections import PromptRejections
from .._protocol.messages import Prompt, replace_surrogates

PromptSource: TypeAlias = "Iterable[Prompt | Mapping[str, Any]] | str | os.PathLike[str]"

Check: TypeAlias = Callable[[Prompt, Any], object]

SUFFIXES: Final = (".jsonl", ".txt", ".csv")


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
        rejections: those of its requests so far, or ``None``.
        started: when a worker first took it (monotonic clock), or 0.
    """

    index: int
    custom_id: str
    prompt: Prompt
    temperature: float | None = None
    error: Exception | None = None
    attempts: int = 0
    rejections: PromptRejections | None = None
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
        source: an iterable of strings, message lists or dicts, or the path of a file.
        check: raises TypeError or ValueError for a prompt and temperature that cannot be sent.
        column: the column of a ``.csv`` file that has the prompts; ``prompt`` if it is not given.
    """

    def __init__(self, source: PromptSource, check: Check, column: str | None = None) -> None:
        self._source = source
        self._check = check
        self._column = column

    def __iter__(self) -> Iterator[Item]:
        """Begin to read.

        Raises:
            TypeError, ValueError, OSError: the source as a whole cannot be read.
        """
        return self._items(_inputs(self._source, self._column))

    def _items(self, inputs: Iterable[tuple[str, Any]]) -> Iterator[Item]:
        ids = _Ids()
        for index, (place, value) in enumerate(inputs):
            custom_id = str(index)
            try:
                own_id, prompt, temperature = None, value, None
                if not isinstance(value, (str, list, tuple)):
                    own_id, prompt, temperature = _read_record(value)
                custom_id = own_id or custom_id
                ids.add(custom_id, own=own_id is not None)
                self._check(prompt, temperature)
            except (TypeError, ValueError) as error:
                # Never a subclass: the constructor of UnicodeError takes other arguments.
                kind = TypeError if isinstance(error, TypeError) else ValueError
                yield Item(index, custom_id, "", error=kind(f"{place}: {error}"))
            else:
                yield Item(index, custom_id, prompt, temperature)

    def check_all(self) -> int:
        """Check all inputs before anything is sent; only for a source that can be read again.

        Returns:
            The number of inputs.

        Raises:
            TypeError, ValueError: of the first input that cannot be sent, with its place.
        """
        count = 0
        for item in self:
            if item.error is not None:
                raise item.error
            count += 1
        if not count:
            raise ValueError("there are no prompts in the input")
        return count


def can_be_read_again(source: PromptSource) -> bool:
    """Whether reading the source leaves it unchanged."""
    return isinstance(source, (str, os.PathLike, Sequence))


def _inputs(source: PromptSource, column: str | None) -> Iterator[tuple[str, Any]]:
    """Each input, or the error in its place, with a description of where it is."""
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if column is not None and (path is None or path.suffix.lower() != ".csv"):
        raise ValueError("column= needs a .csv file as the source of the prompts")
    if path is not None:
        return _read_file(path, column)
    if isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
        raise TypeError(
            "a batch takes an iterable of prompts, or the path of a .jsonl, .txt or .csv file, not "
            f"{type(source).__name__}"
        )
    if isinstance(source, PromptLines):
        return source.numbered()
    return ((f"prompt {number}", value) for number, value in enumerate(source, 1))


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
            self._positions += 1
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


# --- files ------------------------------------------------------------------------------------


def _read_file(path: Path, column: str | None) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"the format of {str(path)!r} is unknown: give a {', '.join(SUFFIXES)} file, or a list "
            "of prompts"
        )
    if not path.is_file():
        raise FileNotFoundError(f"the file {str(path)!r}, to read prompts from, does not exist")
    if path.suffix.lower() == ".csv":
        return _read_csv(path, column or "prompt")
    return _read_lines(path, _parse_json if path.suffix.lower() == ".jsonl" else str)


def _read_lines(path: Path, parse: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, value in _parse_lines(lines, parse):
            yield f"{path}, line {number}", value


class PromptLines:
    """The prompts of a stream: JSON lines if the first one begins with ``{``, else plain text."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self.numbered())

    def numbered(self) -> Iterator[tuple[str, Any]]:
        """Each prompt, or the error in its place, with a description of its line."""
        blank, lines = 0, iter(self._lines)
        for first in lines:
            if not first.strip():
                blank += 1
                continue
            json_lines = first.lstrip(b"\xef\xbb\xbf \t").startswith(b"{")
            parse = _parse_json if json_lines else str
            for number, value in _parse_lines(chain([first], lines), parse):
                yield f"line {number + blank}", value


def _parse_lines(lines: Iterable[bytes], parse: Callable[[str], Any]) -> Iterator[tuple[int, Any]]:
    """Each line that is not blank with its number; an error in place of one that is invalid."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            value = parse(text) if text.strip() else None
        except UnicodeDecodeError as error:
            value = ValueError(f"not UTF-8 text (byte {error.start} of the line)")
        except (ValueError, RecursionError) as error:
            value = ValueError(f"not JSON ({error})")
        if value is not None:
            yield number, value


def _parse_json(text: str) -> Any:
    """The value of one line; ``null`` is an error in place of a prompt."""
    value = json.loads(text)
    return ValueError("null is not a prompt") if value is None else value


def _read_csv(path: Path, column: str) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text, strict=True)
        try:
            names = list(rows.fieldnames or [])
            if column not in names:
                has = ", ".join(map(repr, names)) or "none"
                raise ValueError(
                    f"{path} does not have the column {column!r}, only {has}: name another one "
                    "with column="
                )
            for row in rows:
                record = {"prompt": row[column] or "", "custom_id": row.get("custom_id") or None}
                yield f"{path}, line {rows.line_num}", record
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, after line {rows.line_num}: not CSV ({error})") from error
