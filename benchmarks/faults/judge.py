"""Whether the result of a client is right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Case(Protocol):
    """The expected result of a case; see ``tests/faults/cases.py``."""

    @property
    def error(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def arguable(self) -> str | None: ...


@dataclass(frozen=True)
class Seen:
    """What a client's caller received: text, an error if there was one, and whether it ended."""

    text: str = ""
    error: str | None = None
    ended: bool = True


class Outcome(Enum):
    TRUE = "true"
    FALSE_SUCCESS = "false success"
    HANG = "hang"
    WRONG_TEXT = "wrong text"
    FALSE_ERROR = "false error"


def judge(case: Case, seen: Seen) -> Outcome:
    """Compare a client's result with the expected one; any error is as good as another."""
    if not seen.ended:
        return Outcome.HANG
    if case.arguable is not None and (seen.error or seen.text == case.arguable):
        return Outcome.TRUE
    if seen.error:
        return Outcome.TRUE if case.error else Outcome.FALSE_ERROR
    if case.error:
        return Outcome.FALSE_SUCCESS
    return Outcome.TRUE if seen.text == case.text else Outcome.WRONG_TEXT
