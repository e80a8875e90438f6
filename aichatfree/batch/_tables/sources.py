"""Which sources a batch can read: files of several formats, frames, and iterables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from .csv_files import read_csv
from .frames import is_frame, read_frame
from .inputs import Inputs
from .lines import PromptLines, read_json_lines, read_text_lines
from .parquet_files import read_parquet

READERS: Final[Mapping[str, Callable[[Path], Inputs]]] = {
    ".jsonl": read_json_lines,
    ".txt": read_text_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


def can_be_read_again(source: object) -> bool:
    """Whether reading the source leaves it unchanged."""
    return isinstance(source, (str, os.PathLike, Sequence)) or is_frame(source)


def read_inputs(source: object) -> Inputs:
    """The inputs of a source, from its start.

    Raises:
        TypeError, ValueError, OSError: the source as a whole cannot be read.
        ImportError: it needs an extra that is not installed.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if is_frame(source):
        return read_frame(source)
    if isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
        raise TypeError(
            "a batch takes an iterable of prompts or rows, a frame, or the path of a "
            f"{', '.join(READERS)} file, not {type(source).__name__}"
        )
    if isinstance(source, PromptLines):
        return Inputs("standard input", None, source.numbered())
    numbered = ((f"prompt {number}", value) for number, value in enumerate(source, 1))
    return Inputs(f"the {type(source).__name__}", None, numbered)


def _read_file(path: Path) -> Inputs:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"the format of {str(path)!r} is unknown: give a {', '.join(READERS)} file, or a list "
            "of prompts"
        )
    if not path.is_file():
        raise FileNotFoundError(f"the file {str(path)!r}, to read prompts from, does not exist")
    return reader(path)
