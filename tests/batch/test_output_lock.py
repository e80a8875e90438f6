"""The lock of an output: one run at a time writes to it, and a dead run does not keep it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aichatfree import AIChatFreeError
from aichatfree.testing import Answer, FakeSite
from helpers import HANG, LONG, UNREACHABLE, ClientFor, echo, run, run_python

LOCK = ".a.jsonl.lock"


def test_a_second_run_on_an_output_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """While a batch is open, another one on its output is an error, here and in other processes."""
    path = tmp_path / "a.jsonl"
    with FakeSite([Answer("late", delay=HANG)]) as site:
        client = client_for(site.url)
        with client.batch(["one"], output=path):
            with pytest.raises(AIChatFreeError, match="Another run is writing"):
                client.batch(["one"], output=path)
            done = run("batch", "-", "-o", str(path), url=site.url, stdin=b"one\n")
            assert done.returncode == 1
            assert b"Another run is writing" in done.stderr
        client.batch(["one"], output=path).close()


def test_a_link_to_an_output_has_the_same_lock(client_for: ClientFor, tmp_path: Path) -> None:
    """Two runs cannot write to one file through two paths."""
    path, link = tmp_path / "a.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    client = client_for(UNREACHABLE)
    with (
        client.batch(["one"], output=path),
        pytest.raises(AIChatFreeError, match="Another run is writing"),
    ):
        client.batch(["one"], output=link)


def test_the_lock_file_is_removed_at_the_end(client_for: ClientFor, tmp_path: Path) -> None:
    """The hidden lock file exists only while the batch is open."""
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(["one"], output=tmp_path / "a.jsonl")
        assert (tmp_path / LOCK).exists()
        batch.run()
    assert not (tmp_path / LOCK).exists()


def test_a_refused_run_releases_its_lock(client_for: ClientFor, tmp_path: Path) -> None:
    """A batch() that raises an error about its output leaves neither a lock nor its file."""
    path = tmp_path / "a.jsonl"
    with FakeSite(echo) as site:
        client = client_for(site.url)
        client.batch(["one"], output=path).run()
        for prompts, resume in ((["other"], True), (["one"], False)):
            with pytest.raises(ValueError, match="answer"):
                client.batch(prompts, output=path, resume=resume)
            assert not (tmp_path / LOCK).exists()
        assert client.batch(["one"], output=path).run().reused == 1


@contextmanager
def killed_driver(code: str, output: Path) -> Iterator[None]:
    """Run a script that opens a batch, starts a process and kills itself.

    The code has to print the id of the process that it starts, which is killed at the end.
    """
    script = f"""
import os, subprocess, sys, time
import aichatfree
batch = aichatfree.Client({UNREACHABLE!r}).batch(["one"], output=sys.argv[1])
{code}
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
        try:
            assert driver.wait(LONG) == -signal.SIGKILL
            yield
        finally:
            os.kill(child, signal.SIGKILL)


CHILDREN = {
    "forked": "if os.fork() == 0: print(os.getpid(), flush=True); time.sleep(99)",
    "executed": "print(subprocess.Popen(['sleep', '99'], close_fds=False).pid, flush=True)",
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_dead_driver_does_not_keep_the_lock(
    client_for: ClientFor, tmp_path: Path, kind: str
) -> None:
    """After a kill the output can be used at once, even if children of the driver still live."""
    output = tmp_path / "a.jsonl"
    with killed_driver(CHILDREN[kind], output):
        assert (tmp_path / LOCK).exists()
        client_for(UNREACHABLE).batch(["one"], output=output).close()
    assert not (tmp_path / LOCK).exists()


def test_a_forked_child_does_not_release_the_lock(tmp_path: Path) -> None:
    """A child that closes its copy of the batch and ends leaves the lock to its parent."""
    script = f"""
        import os, sys
        import aichatfree
        client = aichatfree.Client({UNREACHABLE!r})
        batch = client.batch(["one"], output=sys.argv[1])
        child = os.fork()
        if child == 0:
            batch.close()
            del batch
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        print(os.path.exists(sys.argv[2]))
        client.batch(["one"], output=sys.argv[1])
    """
    done = run_python(script, str(tmp_path / "a.jsonl"), str(tmp_path / LOCK))
    assert done.stdout == "True\n"
    assert "Another run is writing" in done.stderr
