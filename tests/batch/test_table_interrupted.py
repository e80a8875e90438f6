"""Tables of runs that are stopped: by Ctrl-C, by a kill, and by a full disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aichatfree.testing import Answer, FakeSite, Request
from helpers import COMMAND, LONG, SHORT, ClientFor, echo, run, wait_until

from .journals import rows_of, table_of

COUNT = 60
WORKERS = 4


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text("key,review\n" + "".join(f"k{n},review {n}\n" for n in range(COUNT)))
    return path


def arguments(reviews: Path) -> list[str]:
    options = ["--prompt", "Classify: {review}", "--id", "key", "--max-workers", str(WORKERS)]
    return ["batch", str(reviews), *options, "-o", str(reviews.parent / "out.csv")]


def check_complete(output: Path) -> None:
    """Every row has its answer, in the order of the input."""
    rows = [row[:4] for row in table_of(output)[1:]]
    assert rows == [
        [f"k{n}", f"review {n}", f"echo Classify: review {n}", ""] for n in range(COUNT)
    ]
    assert not list(output.parent.glob(".*"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_can_be_completed(reviews: Path, kind: signal.Signals) -> None:
    """After an interrupt the table has all rows, some without an answer; a kill leaves no table.

    The same command completes it, and sends nothing twice but what was in flight.
    """
    output = reviews.parent / "out.csv"
    held = threading.Event()

    def answer(request: Request) -> Answer:
        number = int(request.text.rpartition(" ")[2])
        if number >= COUNT // 2:
            held.wait(LONG)
        return Answer(echo(request))

    with FakeSite(answer) as site:
        environment = {**os.environ, "AICHATFREE_BASE_URL": site.url}
        with subprocess.Popen(
            [*COMMAND, *arguments(reviews)], stderr=subprocess.PIPE, env=environment
        ) as process:
            wait_until(lambda: len(rows_of(reviews.parent / "out.csv.jsonl")) == COUNT // 2)
            process.send_signal(kind)
            if kind == signal.SIGKILL:
                process.wait(LONG)
            time.sleep(SHORT)
            held.set()
            _, err = process.communicate(timeout=LONG)
        if kind == signal.SIGKILL:
            assert not output.exists()
        else:
            assert process.returncode == 130, err
            assert b"out.csv.jsonl" in err
            answers = [row[2] for row in table_of(output)[1:]]
            assert len(answers) == COUNT
            assert all(answers[: COUNT // 2])
            assert not any(answers[COUNT // 2 + WORKERS :])
        done = run(*arguments(reviews), url=site.url)
        assert done.returncode == 0, done.stderr
        sent = Counter(request.text for request in site.requests)
    check_complete(output)
    assert len(sent) == COUNT
    assert sum(sent.values()) <= COUNT + WORKERS * (kind == signal.SIGKILL)


@contextmanager
def disk_with(size: int) -> Iterator[None]:
    """Let no file grow beyond this size, in bytes, as if the disk was full then."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@pytest.mark.parametrize("journal_fits", [False, True])
def test_a_full_disk_loses_no_answer(
    client_for: ClientFor, tmp_path: Path, journal_fits: bool
) -> None:
    """If the table, or even its journal, does not fit on the disk, the next run completes both.

    The error names the table and the journal; what was written before remains valid.
    """
    output = tmp_path / "out.csv"
    rows = [{"q": f"q{n}", "more": "x" * 1000} for n in range(COUNT)]
    with FakeSite(echo) as site:
        client = client_for(site.url)
        batch = client.batch(rows, column="q", output=output, max_workers=1)
        with (
            disk_with(20_000 if journal_fits else 2_000),
            pytest.raises(OSError, match=r"out\.csv could not be written .*out\.csv\.jsonl"),
        ):
            batch.run()
        assert not output.exists()
        answered = len(rows_of(tmp_path / "out.csv.jsonl"))
        assert answered == COUNT if journal_fits else 0 < answered < COUNT
        client.batch(rows, column="q", output=output).run()
        assert len(site.requests) <= COUNT + 2  # what was in flight when the disk was full
    assert [row[2] for row in table_of(output)[1:]] == [f"echo q{n}" for n in range(COUNT)]
    assert not list(tmp_path.glob(".*"))


def test_the_command_fails_if_the_table_cannot_be_written(reviews: Path) -> None:
    """All prompts answered but no table is exit code 1, with the reason and what to do."""
    with FakeSite(echo) as site:
        (reviews.parent / ".out.csv.tmp").mkdir()
        done = run(*arguments(reviews), url=site.url)
        assert done.returncode == 1
        assert b"out.csv could not be written" in done.stderr
        assert b"Traceback" not in done.stderr
        (reviews.parent / ".out.csv.tmp").rmdir()
        assert run(*arguments(reviews), url=site.url).returncode == 0
        assert len(site.requests) == COUNT
    check_complete(reviews.parent / "out.csv")
