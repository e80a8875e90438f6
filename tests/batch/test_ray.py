"""Batches on Ray: the executor on a real cluster of one machine, and the example."""

from __future__ import annotations

import doctest
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from threading import Event
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

import aichatfree
from aichatfree import Client
from aichatfree.batch import RayExecutor
from aichatfree.testing import FakeSite, Request
from helpers import (
    AT_ONCE,
    HANG,
    LONG,
    ROOT,
    ClientFor,
    echo,
    terminal,
    threads_named,
    wait_until,
)

from .journals import ids_in

ray = pytest.importorskip("ray", reason='needs Ray: pip install ".[ray]"')

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(240)]

EXAMPLE = [sys.executable, str(ROOT / "examples" / "ray_batch.py")]

#: Tasks that the cluster runs at a time.
CPUS = 2

#: Seconds for the start of a cluster, or of a worker in the place of one that died.
START = 90.0


@pytest.fixture(scope="module", autouse=True)
def settings_of_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        # Ray would otherwise leave a token in the home directory.
        environment.setenv("RAY_AUTH_MODE", "disabled")
        # Its workers would otherwise get two percent of the CPU time beside the other tests.
        environment.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def cluster(settings_of_ray: None) -> Iterator[None]:
    ray.init(
        num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    yield
    ray.shutdown()


@pytest.fixture
def executor(cluster: None) -> Iterator[RayExecutor]:
    with RayExecutor() as running:
        yield running


# --- batches ----------------------------------------------------------------------------------


def test_ray_answers_a_batch(client_for: ClientFor, tmp_path: Path, executor: RayExecutor) -> None:
    """The tasks send each prompt once; results come in order and to one journal."""
    output = tmp_path / "a.jsonl"
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(300)], executor=executor, output=output, shard_size=32
        )
        assert [result.text for result in batch] == [f"echo q{n}" for n in range(300)]
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(300)]
    assert len(site.requests) == 300


def test_a_killed_worker_costs_no_answer(
    client_for: ClientFor, tmp_path: Path, executor: RayExecutor
) -> None:
    """Ray repeats the shards of a killed worker: only the shards in flight are sent twice."""
    output, workers = tmp_path / "a.jsonl", tmp_path / "workers"
    workers.mkdir()
    shard_size, count = 16, 600

    with FakeSite(echo) as site:
        url = site.url

        def make_client() -> Client:
            (workers / str(os.getpid())).touch()
            return Client(url)

        batch = client_for(url).batch(
            [f"q{n}" for n in range(count)],
            executor=executor,
            output=output,
            shard_size=shard_size,
            client_factory=make_client,
        )
        results = [next(batch) for _ in range(50)]
        os.kill(int(next(workers.iterdir()).name), signal.SIGKILL)
        results += list(batch)
    assert [result.text for result in results] == [f"echo q{n}" for n in range(count)]
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(count)]
    assert len(site.requests) - count <= CPUS * shard_size


def test_ctrl_c_twice_keeps_what_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second Ctrl-C ends the example although requests hang; the next run sends the rest."""
    monkeypatch.chdir(tmp_path)
    answer_all = threading.Event()

    def answer(request: Request) -> str:
        if not request.text.endswith((" A.", " B.", " C.", " D.", " E.")):
            answer_all.wait(HANG)
        return echo(request)

    with FakeSite(answer) as site:
        with terminal(*EXAMPLE, url=site.url, command=[]) as session:
            session.wait_for("5/10", START)
            session.interrupt()
            session.wait_for("Ctrl-C again")
            session.interrupt()
            session.wait_for("run the same again to continue")
            assert session.finish() != 0
        answer_all.set()
        assert ids_in(tmp_path / "rivers.jsonl") == ["0", "1", "2", "3", "4"]
        done = run_example(site)
    assert "5 answered, 0 failed, 5 reused" in done
    assert sorted(ids_in(tmp_path / "rivers.jsonl")) == [str(n) for n in range(10)]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example prints the answers of the workers in order, and the summary."""
    monkeypatch.chdir(tmp_path)
    with FakeSite(echo) as site:
        *answers, summary = run_example(site).splitlines()
    assert answers == [
        f"{n} echo Name a river that begins with {letter}." for n, letter in enumerate("ABCDEFGHIJ")
    ]
    assert summary.startswith("10 answered, 0 failed, ")


def run_example(site: FakeSite) -> str:
    """What the example writes to standard output."""
    environment = {**os.environ, "AICHATFREE_BASE_URL": site.url}
    done = subprocess.run(EXAMPLE, env=environment, capture_output=True, text=True, timeout=START)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the executor -----------------------------------------------------------------------------


def test_the_example_in_the_docstring_runs(client_for: ClientFor, cluster: None) -> None:
    """The example of the class prints what it says."""
    wrong: list[str] = []
    example, *_ = doctest.DocTestFinder().find(RayExecutor, "RayExecutor")
    with FakeSite("The Nile.") as site:
        example.globs = {"aichatfree": aichatfree, "client": client_for(site.url)}
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=wrong.append)
    assert not wrong, "".join(wrong)


def test_a_call_is_made_in_another_process(executor: RayExecutor) -> None:
    """Arguments reach the worker, and its result comes back."""
    process, text = executor.submit(
        lambda *args, **kwargs: (os.getpid(), f"{args} {kwargs}"), 1, b=2
    ).result(START)
    assert process != os.getpid()
    assert text == "(1,) {'b': 2}"


def test_an_error_is_that_of_the_call(executor: RayExecutor) -> None:
    """The future raises the exception of the call, not one of Ray's that contains it."""

    def fail() -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError) as caught:
        executor.submit(fail).result(START)
    assert (type(caught.value), caught.value.args) == (KeyError, ("missing",))


def test_a_worker_that_always_dies_is_an_error(cluster: None) -> None:
    """A call that kills its worker each time is an error in the end."""
    with RayExecutor(max_retries=1) as executor, pytest.raises(ray.exceptions.WorkerCrashedError):
        executor.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).result(2 * START)


def test_calls_beyond_the_limit_wait(cluster: None, tmp_path: Path) -> None:
    """At most max_workers tasks run at a time, although the cluster could run more."""

    def overlap(number: int) -> int:
        mine = tmp_path / str(number)
        mine.touch()
        time.sleep(0.1)
        running = len(list(tmp_path.iterdir()))
        mine.unlink()
        return running

    with RayExecutor(max_workers=1, num_cpus=0.1) as executor:
        assert list(executor.map(overlap, range(5), timeout=START)) == [1] * 5


def test_a_call_that_nobody_wants_does_not_delay_the_end(cluster: None, tmp_path: Path) -> None:
    """A running call cannot be cancelled, but if that was tried, shutdown() kills its worker."""
    started = tmp_path / "started"

    def hang() -> None:
        started.touch()
        time.sleep(HANG)

    with RayExecutor(max_workers=1) as executor:
        call = executor.submit(hang)
        wait_until(started.exists, START)
        assert not call.cancel()
    with pytest.raises(CancelledError):
        call.result()


class SlowRay(ModuleType):
    """Stands in for Ray: it takes a task only when told to, and runs it until it is cancelled."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.asked, self.takes, self.killed = Event(), Event(), Event()
        self.exceptions = ray.exceptions

    def remote(self, _: object) -> object:
        return SimpleNamespace(remote=self._take)

    def _take(self, *_: object) -> str:
        self.asked.set()
        self.takes.wait(LONG)
        return "a reference"

    def get(self, _: object) -> None:
        assert self.killed.wait(LONG)
        raise ray.exceptions.TaskCancelledError

    def cancel(self, _: object, *, force: bool) -> None:
        self.killed.set()


def test_an_unwanted_call_that_ray_takes_during_the_shutdown_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A running call is cancelled even if Ray takes its task only after the executor's shutdown."""
    slow = SlowRay()
    monkeypatch.setitem(sys.modules, "ray", slow)
    executor = RayExecutor(max_workers=1)
    future = executor.submit(time.sleep, HANG)
    assert slow.asked.wait(LONG)
    assert not future.cancel()
    executor.shutdown(wait=False)
    slow.takes.set()
    with pytest.raises(CancelledError):
        future.result(LONG)


def test_calls_that_wait_are_cancelled_with_the_executor(cluster: None, tmp_path: Path) -> None:
    """shutdown(cancel_futures=True) cancels the calls that wait; those in flight are completed."""
    started = tmp_path / "started"

    def slow() -> str:
        started.touch()
        time.sleep(0.5)
        return "done"

    executor = RayExecutor(max_workers=1)
    calls = [executor.submit(slow) for _ in range(3)]
    wait_until(started.exists, START)
    executor.shutdown(cancel_futures=True)
    assert not wait(calls, AT_ONCE).not_done
    assert calls[0].result() == "done"
    for call in calls[1:]:
        with pytest.raises(CancelledError):
            call.result()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(slow)
    assert threads_named("aichatfree-ray") == []


@pytest.mark.parametrize("max_workers", [0, 1.5, True])
def test_a_wrong_number_of_workers_is_refused(cluster: None, max_workers: object) -> None:
    """max_workers is a whole number, at least 1."""
    with pytest.raises((TypeError, ValueError), match="max_workers must be"):
        RayExecutor(cast("int", max_workers))
