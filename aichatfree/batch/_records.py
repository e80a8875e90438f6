"""What goes into a batch and what comes out: items, results, and the files they are read from."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias

from .._protocol.messages import Prompt, replace_surrogates

PromptSource: TypeAlias = "Iterable[Prompt | Mapping[str, Any]] | str | os.PathLike[str]"

Check: TypeAlias = Callable[[Prompt, Any], object]

SUFFIXES: Final = (".jsonl", ".txt", ".csv")


@dataclass(slots=True)
class Item:
    """One prompt of a batch; with an error in place of it, an input that cannot be asked."""

    index: int
    custom_id: str
    prompt: Prompt
    temperature: float | None = None
    error: Exception | None = None
    attempts: int = 0  # made before it was put by
    began: float = 0.0  # when a worker took it up (monotonic)

    def digest(self) -> str:
        """A short name for what is asked, the same in every run."""
        prompt = self.prompt
        if not isinstance(prompt, str):
            prompt = [{"role": m["role"], "content": m["content"]} for m in prompt]
        return digest_of([prompt, self.temperature])


def digest_of(value: object) -> str:
    """A short name for a value, the same in every run, that does not show it."""
    text = json.dumps(value, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(slots=True)
class BatchResult:
    """What became of one prompt.

    >>> for result in client.batch([{"custom_id": "first", "prompt": "Name a river."}]):
    ...     print(result.custom_id, result.ok, result.text)
    first True The Nile.

    Attributes:
        custom_id: the item's own, or its position as text.
        index: its position in the input, from 0.
        text: the answer; where it broke off, what had arrived of it.
        error: why there is no whole answer, or ``None``.
        attempts: how often the request was sent; 0 if this run did not send it.
        latency: seconds from when a worker took it up to the end, waits for the limit included.
        reused: whether the answer is from an earlier run, or from an identical prompt of this one.
    """

    custom_id: str
    index: int
    text: str = ""
    error: Exception | None = None
    attempts: int = 0
    latency: float = 0.0
    reused: bool = False

    @property
    def ok(self) -> bool:
        """Whether the answer is whole."""
        return self.error is None


def items_from(source: PromptSource, check: Check, column: str | None = None) -> Iterator[Item]:
    """The items of a batch, one by one; an input that cannot be asked is an item with an error.

    Args:
        source: an iterable of strings, message lists or dicts, or the path of a file.
        check: raises TypeError or ValueError for a prompt and temperature that cannot be asked.
        column: the column of a ``.csv`` file that has the prompts; ``prompt`` if not named.

    Raises:
        TypeError, ValueError, OSError: the source as a whole is none.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if column is not None and (path is None or path.suffix.lower() != ".csv"):
        raise ValueError("column= goes with a .csv file")
    if path is not None:
        return _items(_read_file(path, column), check)
    if isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
        raise TypeError(
            "a batch takes an iterable of prompts, or the path of a .jsonl, .txt or .csv file, not "
            f"{type(source).__name__}"
        )
    if isinstance(source, PromptLines):
        return _items(source.numbered(), check)
    return _items(((f"prompt {number}", each) for number, each in enumerate(source, 1)), check)


def check_all(items: Iterable[Item]) -> int:
    """Go through the items of a source that can be read again, before anything is sent.

    Returns:
        How many there are.

    Raises:
        TypeError, ValueError: the first one that cannot be asked; its place is named.
    """
    count = 0
    for item in items:
        if item.error is not None:
            raise item.error
        count += 1
    if not count:
        raise ValueError("there are no prompts in the input")
    return count


def can_be_read_again(source: PromptSource) -> bool:
    """Whether reading the source leaves it as it was."""
    return isinstance(source, (str, os.PathLike, Sequence))


def _items(inputs: Iterable[tuple[str, Any]], check: Check) -> Iterator[Item]:
    ids = _Ids()
    for index, (where, value) in enumerate(inputs):
        custom_id = str(index)
        try:
            own_id, prompt, temperature = None, value, None
            if not isinstance(value, (str, list, tuple)):
                own_id, prompt, temperature = _read_record(value)
            custom_id = own_id or custom_id
            ids.take(custom_id, own=own_id is not None)
            check(prompt, temperature)
        except (TypeError, ValueError) as error:
            # Not its own type: that of a Unicode error takes other arguments.
            kind = TypeError if isinstance(error, TypeError) else ValueError
            named = kind(f"{where}: {error}")
            yield Item(index, custom_id, "", error=named)
        else:
            yield Item(index, custom_id, prompt, temperature)


class _Ids:
    """The ids that are taken. Inputs without one are called by their position, from 0.

    As long as no input brings an id nothing is remembered, however many inputs there are.
    """

    def __init__(self) -> None:
        self._positions = 0  # the ids "0", "1", ... below this are taken by position
        self._taken: set[str] = set()

    def take(self, custom_id: str, *, own: bool) -> None:
        if not own and not self._taken:
            self._positions += 1
            return
        by_position = custom_id.isascii() and custom_id.isdigit() and custom_id[0] != "0"
        if custom_id in self._taken or (
            (by_position or custom_id == "0") and int(custom_id) < self._positions
        ):
            raise ValueError(f"the custom_id {custom_id!r} is used twice")
        self._taken.add(custom_id)


def _read_record(value: object) -> tuple[str | None, Any, float | None]:
    """The id, prompt and temperature of one input that is not a plain prompt."""
    if isinstance(value, Exception):
        raise value
    if not isinstance(value, Mapping):
        raise TypeError(
            f"a prompt is a str, a list of messages or a dict, not {type(value).__name__}"
        )
    custom_id = value.get("custom_id")
    if custom_id is not None and (not isinstance(custom_id, str) or not custom_id):
        raise TypeError("custom_id must be a str with something in it")
    body = value.get("body")  # a line of an OpenAI batch file
    record = body if isinstance(body, Mapping) else value
    given = [key for key in ("prompt", "messages") if record.get(key) is not None]
    if len(given) != 1:
        raise ValueError('a dict needs either "prompt" or "messages"')
    prompt = record[given[0]]
    if given == ["messages"]:
        prompt = [_flat(message) for message in prompt] if isinstance(prompt, list) else prompt
    return (
        custom_id if custom_id is None else replace_surrogates(custom_id),
        prompt,
        record.get("temperature"),
    )


def _flat(message: Any) -> Any:
    """A message whose content may be a list of text parts, as OpenAI's may."""
    parts = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(parts, list):
        return message
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        raise ValueError("a message has something other than text in it")
    return {**message, "content": "".join(str(part.get("text", "")) for part in parts)}


# --- files ------------------------------------------------------------------------------------


def _read_file(path: Path, column: str | None) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot tell what {str(path)!r} is: name a {', '.join(SUFFIXES)} file, or give a list "
            "of prompts"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r} to read prompts from")
    if path.suffix.lower() == ".csv":
        return _read_csv(path, column or "prompt")
    return _read_lines(path, _parse_json if path.suffix.lower() == ".jsonl" else _as_it_is)


def _read_lines(path: Path, parse: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, value in _parsed(lines, parse):
            yield f"{path}, line {number}", value


class PromptLines:
    """The prompts of a stream: JSON lines if the first one begins with ``{``, else plain text."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self.numbered())

    def numbered(self) -> Iterator[tuple[str, Any]]:
        """Each prompt, or the error in its place, with the words for its line."""
        blank, lines = 0, iter(self._lines)
        for first in lines:
            if not first.strip():
                blank += 1
                continue
            json_lines = first.lstrip(b"\xef\xbb\xbf \t").startswith(b"{")
            parse = _parse_json if json_lines else _as_it_is
            for number, value in _parsed(chain([first], lines), parse):
                yield f"line {number + blank}", value


def _parsed(lines: Iterable[bytes], parse: Callable[[str], Any]) -> Iterator[tuple[int, Any]]:
    """Each line that is not blank with its number; an error in place of one that cannot be read."""
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
    """The value of one line; ``null`` is an error, because it is no prompt."""
    value = json.loads(text)
    return ValueError("null is no prompt") if value is None else value


def _as_it_is(text: str) -> str:
    return text


def _read_csv(path: Path, column: str) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text, strict=True)
        try:
            names = list(rows.fieldnames or [])
            if column not in names:
                has = ", ".join(map(repr, names)) or "none"
                raise ValueError(f"{path} has no column {column!r}; it has {has}")
            for row in rows:
                record = {"prompt": row[column] or "", "custom_id": row.get("custom_id") or None}
                yield f"{path}, line {rows.line_num}", record
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, after line {rows.line_num}: not CSV ({error})") from error
