"""The tables of what was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from benchmarks.faults.judge import Outcome
from benchmarks.faults.processes import MOST, PATIENCE

MEANINGS = {
    Outcome.TRUE: "the right text of a whole answer, or any error where no whole answer came",
    Outcome.FALSE_SUCCESS: "no error, though no whole answer came: but half of one, none, an "
    "error's words, a web page, or what another host said",
    Outcome.HANG: f"no end within {PATIENCE:g} s, where the limits are at most half of that, or "
    f"within {MOST:,} characters",
    Outcome.WRONG_TEXT: "the whole answer came, the caller got another text",
    Outcome.FALSE_ERROR: "the whole answer came, the caller got an error",
}
MARKS = {Outcome.TRUE: "ok", Outcome.FALSE_SUCCESS: "FALSE"}


@dataclass(frozen=True)
class Row:
    """A case and what each client made of it; ``undetectable`` says why none can know better."""

    case: str
    undetectable: str
    outcomes: Sequence[Outcome]


def report(clients: Sequence[str], rows: Sequence[Row], markdown: bool) -> Iterator[str]:
    """Lines: how often each client did what, and the cases where one of them failed."""
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
    unknowable = [row for row in rows if row.undetectable]
    if unknowable:
        yield ""
        yield "Not counted, since ours cannot know"
        yield ""
    for row in unknowable:
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
