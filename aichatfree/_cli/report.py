"""``aichatfree report``: what happened in the runs of a batch, as an HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from .options import usage_errors


@click.command()
@click.argument("output_of_batch", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="The report (default: OUTPUT with the suffix .report.html).",
)
def report(output_of_batch: Path, output: Path | None) -> None:
    """Write a report of a batch as one HTML file.

    OUTPUT is the output of a batch, complete or not: a .jsonl file, or out.csv for out.csv.jsonl
    beside it. The report shows throughput, times, rate limits and failures of all its runs. It has
    no prompts and no answers in it, but messages of the site.

    \b
    Example:
      aichatfree report answers.jsonl -o report.html
    """
    from ..batch import Report

    with usage_errors(OSError):
        click.echo(f"Written to {Report(output_of_batch).write(output)}.")
