"""The tables of outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from benchmarks.faults.judge import Outcome
from benchmarks.faults.processes import MAX_CHARACTERS, TIME_LIMIT

MEANINGS = {
    Outcome.TRUE: "the text of a complete answer, or any error for an incomplete one",
    Outcome.FALSE_SUCCESS: "no error although there was no complete answer, but a part of one, "
    "none, an error's text, a web page, or the answer of another host",
    Outcome.HANG: f"no end within {TIME_LIMIT:g} s, where timeouts are at most half of that, or "
    f"within {MAX_CHARACTERS:,} characters",
    Outcome.WRONG_TEXT: "the answer was complete, and the caller received another text",
    Outcome.FALSE_ERROR: "the answer was complete, and the caller received an error",
}
MARKS = {Outcome.TRUE: "ok", Outcome.FALSE_SUCCESS: "FALSE"}


@dataclass(frozen=True)
class Row:
    """The outcomes of each client for a case; ``undetectable`` says why no client can be right."""

    case: str
    undetectable: str
    outcomes: Sequence[Outcome]


def report(clients: Sequence[str], rows: Sequence[Row], markdown: bool) -> Iterator[str]:
    """Lines: how often each client had each outcome, and the cases that a client got wrong."""
    judged = [row for row in rows if not row.undetectable]
    counts = [Counter(outcomes) for outcomes in zip(*(row.outcomes for row in judged), strict=True)]
    yield f"Outcomes of {len(judged)} cases"
    yield ""
    head = ["client", *(outcome.value for outcome in Outcome)]
    summary = [
        [client, *(str(count[outcome]) for outcome in Outcome)]
        for client, count in zip(clients, counts, strict=True)
    ]
    yield from table([head, *summary], markdown)
    yield ""
    yield from (f"- {outcome.value}: {meaning}" for outcome, meaning in MEANINGS.items())
    yield ""
    yield "Cases where a client failed"
    yield ""
    failed = [row for row in judged if set(row.outcomes) != {Outcome.TRUE}]
    yield from table([["case", *clients], *map(cells, failed)], markdown)
    undetectable = [row for row in rows if row.undetectable]
    if undetectable:
        yield ""
        yield "Not counted, since no client can detect them"
        yield ""
    for row in undetectable:
        yield f"- {row.case}: {row.undetectable}"


def cells(row: Row) -> list[str]:
    return [row.case, *(MARKS.get(outcome, outcome.value) for outcome in row.outcomes)]


def table(rows: Sequence[Sequence[str]], markdown: bool) -> Iterator[str]:
    """Aligned columns, with a line under the first row."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    rule = ["-" * width for width in widths]
    for row in [rows[0], rule, *rows[1:]]:
        line = (" | " if markdown else "  ").join(map(str.ljust, row, widths))
        yield f"| {line} |" if markdown else line.rstrip()
