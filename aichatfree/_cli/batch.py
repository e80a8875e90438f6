"""``aichatfree batch``: many prompts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._extras import install_command
from ..errors import AIChatFreeError
from .messages import print_json, report, show_log, tell, usage_error, words_of
from .options import open_client, site_options, usage_errors

if TYPE_CHECKING:
    from ..batch import Batch, BatchResult, Summary


@click.command()
@click.argument("prompts", default="-", type=click.Path(allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="FILE.jsonl for each answer as it arrives (default: stdout), with failures in "
    "FILE.errors.jsonl; or a table at the end, FILE.csv or FILE.parquet.",
)
@click.option("--max-workers", default=16, show_default=True, help="Threads that send prompts.")
@click.option("--rpm", type=float, metavar="N", help="The rate limit of each site, a minute.")
@click.option("--system", help="A system prompt for all prompts.")
@click.option("--prompt", "template", metavar="TEXT", help="The prompt, with {column} for cells.")
@click.option("--column", help="The column that has the prompts.")
@click.option("--id", "id_column", metavar="COLUMN", help="The column that identifies rows.")
@click.option("--skip-empty", is_flag=True, help="Skip rows whose prompt needs an empty cell.")
@click.option("--unordered", is_flag=True, help="Answers as they arrive, on stdout too.")
@click.option("--dedupe", is_flag=True, help="Send identical prompts once.")
@click.option("--max-errors", type=int, metavar="N", help="Stop after more failures than this.")
@click.option("--dask", metavar="ADDRESS", help="Send from the workers of this Dask scheduler.")
@site_options
def batch(
    prompts: str,
    output: str | None,
    max_workers: int,
    rpm: float | None,
    system: str | None,
    template: str | None,
    column: str | None,
    id_column: str | None,
    skip_empty: bool,
    unordered: bool,
    dedupe: bool,
    max_errors: int | None,
    dask: str | None,
    **site: Any,
) -> int:
    """Send many prompts.

    PROMPTS is a .jsonl or .txt file, or rows: a .csv, .parquet or .jsonl file. Without one they
    are the lines of standard input. Run the same command again to continue where it stopped, and
    to retry failures.

    \b
    Examples:
      aichatfree batch prompts.jsonl -o answers.jsonl --max-workers 32
      aichatfree batch reviews.csv --prompt "Classify: {review}" -o out.csv
      echo "Name a river." | aichatfree batch --local
    """
    if dask and site["local"]:
        raise click.UsageError("--local and --dask exclude each other: leave one out.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    show_log("aichatfree.batch", "%(message)s")
    from ..batch._tables.lines import PromptLines

    source = PromptLines(sys.stdin.buffer) if prompts == "-" else prompts
    if prompts == "-" and (template or column or id_column):
        _check_rows_on_stdin()
    with ExitStack() as stack:
        client = stack.enter_context(
            open_client(**site, system=system, max_requests_per_minute=rpm)
        )
        with usage_errors(OSError):
            results = client.batch(
                source,
                max_workers=max_workers,
                ordered=not unordered,
                output=output,
                executor=stack.enter_context(_dask_executor(dask)) if dask else None,
                # Answers on a terminal show the progress, and a bar would get between them.
                progress=False if output is None and sys.stdout.isatty() else None,
                max_errors=max_errors,
                dedupe=dedupe,
                template=template,
                column=column,
                id=id_column,
                skip_empty=skip_empty,
            )
        return _run(stack.enter_context(results), output)


def _run(results: Batch, output: str | None) -> int:
    last_error: Exception | None = None
    stop_error: Exception | None = None
    finished = False
    try:
        for result in results:
            last_error = result.error or last_error
            if output is None:
                _print_result(result)
        finished = True
    except BrokenPipeError:
        raise
    except (AIChatFreeError, OSError) as error:  # OSError: the disk is full, for example
        stop_error = error
        report(error)
    except ValueError as error:
        raise usage_error(error) from error
    finally:
        results.close()
        for result in results.drain() if output is None else ():
            _print_result(result)
        tell(str(results.summary))
        if last_error is not None and str(last_error) not in str(stop_error):
            tell(f"The last failure: {words_of(last_error)}")
        if output is not None:
            _print_files(Path(output), results.summary, stopped=stop_error is not None)
    return 0 if finished and not results.summary.failed else 1


def _print_files(output: Path, summary: Summary, *, stopped: bool) -> None:
    from ..batch._journal import files_of
    from ..batch._table import is_table, journal_of

    if summary.failed:
        failures = files_of(journal_of(output)).failures
        tell(f"The failures, with ids and positions of prompts: {failures}")
    if not (summary.complete or stopped or sys.stderr.isatty()):  # the error has said it
        answers = journal_of(output)
        has_answers = answers.exists() and answers.stat().st_size
        finished = f"; {output} has what is finished" if has_answers else ""
        tell(f"Run it again to continue{finished}.")
    if is_table(output) and output.exists() and (summary.failed or not summary.complete):
        journal = journal_of(output)
        tell(f"The table {output} is made from {journal}: keep that to continue.")


def _check_rows_on_stdin() -> None:
    stdin: Any = sys.stdin.buffer
    if not stdin.peek(1).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise click.UsageError("Rows on standard input must be JSON lines: name a .csv file.")


def _print_result(result: BatchResult) -> None:
    print_json(result.to_row())


@contextmanager
def _dask_executor(address: str) -> Iterator[Any]:
    try:
        distributed: Any = import_module("dask.distributed")
    except ImportError as error:
        raise click.ClickException(f"--dask needs: {install_command('dask')}") from error
    try:
        client = distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise click.ClickException(
            f"No Dask scheduler answers at {address} ({error}): start one there, or correct --dask."
        ) from error
    with client:
        yield client.get_executor(pure=False)
