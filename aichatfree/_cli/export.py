"""``aichatfree export``: the journal of a batch as a table."""

from __future__ import annotations

from pathlib import Path

import click

from .options import usage_errors


@click.command()
@click.argument("journal", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The table: FILE.csv, FILE.parquet or FILE.jsonl.",
)
@click.option("--input", "source", metavar="FILE", help="The input, whose columns are added.")
@click.option("--id", "id_column", metavar="COLUMN", help="Its column that identifies rows.")
@click.option("--prompt", "template", metavar="TEXT", help="As in the batch, for --skip-empty.")
@click.option("--column", help="As in the batch, for --skip-empty.")
def export(
    journal: Path,
    output: Path,
    source: str | None,
    id_column: str | None,
    template: str | None,
    column: str | None,
) -> None:
    """Write the results of a batch as a table.

    JOURNAL is the .jsonl output of a batch, complete or not, or out.csv for out.csv.jsonl beside
    it. Rows are in the order of the input, failures included. A row that --skip-empty has skipped
    looks like one without an answer so far, unless --prompt or --column says which cells it needs.

    \b
    Example:
      aichatfree export answers.jsonl -o answers.csv
    """
    from ..batch._table import export_journal

    with usage_errors(OSError):
        export_journal(journal, output, source, id=id_column, template=template, column=column)
