"""What comes out of a batch: the result of each prompt."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..errors import APIError, error_from_dict


def utc(seconds: float) -> str:
    """A time in seconds since 1970 as it is written to files: ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def seconds_of(text: object) -> float:
    """The seconds since 1970 of a time that :func:`utc` wrote; 0 for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0


@dataclass(slots=True)
class BatchResult:
    """The result of one prompt.

    >>> for result in client.batch([{"custom_id": "first", "prompt": "Name a river."}]):
    ...     print(result.custom_id, result.ok, result.text)
    first True The Nile.

    Attributes:
        custom_id: the prompt's ``custom_id``, or its position as text.
        index: its position in the input, from 0.
        text: the answer; if it is incomplete, the part that arrived.
        error: why there is no complete answer, or ``None``.
        attempts: requests sent for it; 0 if this run sent none.
        elapsed: seconds from when a worker took the prompt to the end, including waits for the rate
            limit.
        reused: whether the answer is from an earlier run, or from an identical prompt of this run.
        time_to_first_chunk: seconds from the first request to the first text; ``None`` if there is
            no answer, or it is from an earlier run.
        time: when the result was complete, in seconds since 1970; 0 if that is not known.
        site: the base URL of the site that the last request was sent to; ``""`` if none was sent.
    """

    custom_id: str
    index: int
    text: str = ""
    error: Exception | None = None
    attempts: int = 0
    elapsed: float = 0.0
    reused: bool = False
    time_to_first_chunk: float | None = None
    time: float = field(default_factory=time.time, compare=False)
    site: str = ""

    @property
    def ok(self) -> bool:
        """Whether the answer is complete."""
        return self.error is None

    def to_row(self) -> dict[str, Any]:
        """The result as it is written to a file: with ``text``, or with ``error``."""
        row: dict[str, Any] = {"custom_id": self.custom_id, "index": self.index}
        if self.error is None:
            row["text"] = self.text
        else:
            row["error"] = {
                "type": type(self.error).__name__,
                "message": str(self.error),
                "status_code": getattr(self.error, "status_code", None),
            }
            row["partial_text"] = self.text
        row |= {"attempts": self.attempts, "elapsed": round(self.elapsed, 3)}
        if self.time_to_first_chunk is not None:
            row["time_to_first_chunk"] = round(self.time_to_first_chunk, 3)
        return {**row, "time": utc(self.time), "site": self.site}

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for :meth:`from_dict` in another process."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.error, APIError):
            fields["error"] = self.error.to_dict()
        elif self.error is not None:
            fields["error"] = {"message": str(self.error)}
        return fields

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BatchResult:
        """The result of :meth:`to_dict`."""
        error = data["error"]
        return cls(**{**data, "error": None if error is None else error_from_dict(error)})
