"""Batches on executors: process pools, Dask, and shards for engines without an Executor."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client as DaskClient
from distributed import LocalCluster

from aichatfree import AIChatFreeError, Client
from aichatfree.batch import make_shards, read_results, run_shard
from aichatfree.testing import Answer, FakeSite, Request
from helpers import COMMAND, FAST, LONG, UNREACHABLE, ClientFor, echo

from .journals import ids_in


def assert_all_answered(site: FakeSite, output: Path, count: int) -> None:
    """Each of the prompts q0, q1, ... was sent, and has one answer in the output."""
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(count)]
    assert {request.text for request in site.requests} == {f"q{n}" for n in range(count)}


# --- process pools ----------------------------------------------------------------------------


def test_a_process_pool_answers_a_batch(client_for: ClientFor, tmp_path: Path) -> None:
    """The workers of a pool send each prompt once; results come in order and to one journal."""
    output = tmp_path / "a.jsonl"
    with FakeSite(echo) as site, ProcessPoolExecutor(2) as executor:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(300)], executor=executor, output=output, shard_size=32
        )
        assert [result.text for result in batch] == [f"echo q{n}" for n in range(300)]
        assert_all_answered(site, output, 300)
        assert len(site.requests) == 300


def test_the_executor_is_not_shut_down(client_for: ClientFor) -> None:
    """The executor can still be used after a batch on it has ended."""
    with FakeSite(echo) as site, ThreadPoolExecutor(1) as executor:
        client_for(site.url).batch(["q"], executor=executor).run()
        assert executor.submit(abs, -1).result() == 1


def test_a_run_with_a_killed_pool_worker_can_be_continued(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """The error says that the pool is broken; the answers so far are kept for the next run."""
    output = tmp_path / "a.jsonl"
    prompts = [f"q{n}" for n in range(400)]
    with FakeSite(echo) as site:
        client = client_for(site.url)
        with ProcessPoolExecutor(2) as executor:
            batch = client.batch(prompts, executor=executor, output=output, shard_size=16)
            for _ in range(20):
                next(batch)
            os.kill(next(iter(executor._processes)), signal.SIGKILL)
            with pytest.raises(AIChatFreeError, match="make a new executor"):
                batch.run()
        assert 20 <= len(ids_in(output)) < 400
        with ProcessPoolExecutor(2) as executor:
            client.batch(prompts, executor=executor, output=output).run()
        assert_all_answered(site, output, 400)


def test_cancelled_shards_fail_the_run(client_for: ClientFor) -> None:
    """Shards that are cancelled outside of the batch are an error, not the end of the results."""

    def slow(request: Request) -> Answer:
        return Answer(echo(request), delay=0.3)

    executor = ThreadPoolExecutor(1)
    with FakeSite(slow) as site:
        batch = client_for(site.url).batch(["a", "b", "c"], executor=executor, shard_size=1)
        threading.Timer(0.1, executor.shutdown, (False,), {"cancel_futures": True}).start()
        with pytest.raises(AIChatFreeError, match="executor failed"):
            batch.run()
        assert not batch.summary.complete


def test_a_fatal_error_in_a_worker_stops_the_run(client_for: ClientFor) -> None:
    """After a worker met a wrong password, no further shards are sent."""
    refused = Answer(status=401, body='{"error":{"message":"Invalid password."}}')
    with FakeSite([refused]) as site, ProcessPoolExecutor(2) as executor:
        batch = client_for(site.url).batch(["x"] * 5000, executor=executor)
        with pytest.raises(AIChatFreeError, match="every prompt"):
            batch.run()
        assert len(site.requests) <= 4 * 64
        with contextlib.suppress(StopIteration):
            next(batch)


def test_a_shard_that_is_not_full_is_sent(client_for: ClientFor, tmp_path: Path) -> None:
    """New prompts among many answered ones are sent although they do not fill a shard."""
    output = tmp_path / "a.jsonl"
    prompts = [f"q{n}" for n in range(1000)]
    with FakeSite(echo) as site, ThreadPoolExecutor(1) as executor:
        client = client_for(site.url)
        client.batch(prompts, output=output, max_workers=64).run()
        lines = output.read_bytes().splitlines(keepends=True)
        output.write_bytes(b"".join(line for line in lines if b'"custom_id":"3"' not in line))
        batch = client.batch(prompts, executor=executor, output=output)
        assert [result.text for result in batch] == [f"echo {prompt}" for prompt in prompts]
        assert batch.summary.answered == 1
        same = client.batch(["same"] * 1000, executor=executor, dedupe=True, ordered=False)
        assert same.run().done == 1000


# --- Dask -------------------------------------------------------------------------------------


#: Processes of the cluster.
WORKERS = 4

one_cluster = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    # Dask's profiler sometimes deadlocks CPython before 3.11.9 when threads start and end
    # (python/cpython#106883).
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as running,
    ):
        yield running


@one_cluster
def test_dask_answers_a_batch(client_for: ClientFor, tmp_path: Path, cluster: Any) -> None:
    """The executor of a Dask client can be used like any other."""
    output = tmp_path / "a.jsonl"
    with FakeSite(echo) as site, DaskClient(cluster) as engine:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(300)], executor=engine.get_executor(), output=output
        )
        assert [result.text for result in batch] == [f"echo q{n}" for n in range(300)]
        assert_all_answered(site, output, 300)


@one_cluster
@pytest.mark.timeout(10 * LONG)
def test_a_killed_dask_worker_costs_no_answer(
    client_for: ClientFor, tmp_path: Path, cluster: Any
) -> None:
    """Of 10,000 prompts each is answered once: Dask repeats the shards of a killed worker."""
    output = tmp_path / "a.jsonl"
    shard_size, count = 64, 10_000
    with FakeSite(echo) as site, DaskClient(cluster) as engine:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(count)],
            executor=engine.get_executor(),
            output=output,
            shard_size=shard_size,
        )
        results = [next(batch) for _ in range(count // 2)]
        victim = next(iter(engine.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        results += list(batch)
        assert [result.text for result in results] == [f"echo q{n}" for n in range(count)]
        assert_all_answered(site, output, count)
        shards_in_flight = 2 * WORKERS  # half of them are queued
        assert len(site.requests) - count <= shards_in_flight * shard_size


@one_cluster
def test_the_command_line_uses_dask(tmp_path: Path, cluster: Any) -> None:
    """`aichatfree batch --dask ADDRESS` sends the prompts from the workers of that scheduler."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"q{n}\n" for n in range(100)))
    with FakeSite(echo) as site:
        done = subprocess.run(
            [*COMMAND, "batch", prompts, "-o", output, "--dask", cluster.scheduler_address],
            capture_output=True,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        assert b"100 answered, 0 failed" in done.stderr
        assert_all_answered(site, output, 100)


# --- secrets, factories and shards ------------------------------------------------------------


def factory(url: str) -> Callable[[], Client]:
    """Makes a worker's client; can be pickled, as executors require."""
    return partial(Client, url, secret="s3cret", password="p", retry=FAST)


def test_secrets_are_not_sent_to_workers(client_for: ClientFor) -> None:
    """A client with secrets that workers do not have is refused; client_factory= is accepted."""
    with (
        FakeSite(echo, verify=True, secret="s3cret", password="p") as site,
        ProcessPoolExecutor(1) as executor,
    ):
        client = client_for(site.url, secret="s3cret", password="p")
        with pytest.raises(ValueError, match="client_factory="):
            client.batch(["q0"], executor=executor)
        messages = [{"role": "user", "content": "q1"}]
        batch = client.batch(["q0", messages], executor=executor, client_factory=factory(site.url))
        assert [result.text for result in batch] == ["echo q0", "echo q1"]


def test_workers_take_secrets_from_their_environment(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard contains no secret, and the worker that answers it uses those of its environment."""
    monkeypatch.setenv("AICHATFREE_SECRET", "s3cret")
    monkeypatch.setenv("AICHATFREE_PASSWORD", "passw0rd")
    with FakeSite(echo, verify=True, secret="s3cret", password="passw0rd") as site:
        (shard,) = make_shards(client_for(site.url), ["q0", "q1"])
        assert b"s3cret" not in shard
        assert b"passw0rd" not in shard
        results = read_results(run_shard(shard))
    assert [result.text for result in results] == ["echo q0", "echo q1"]


def test_a_stopped_shard_has_a_result_for_each_prompt(client_for: ClientFor) -> None:
    """read_results returns one result for each prompt in order, also for those not sent."""
    with FakeSite([Answer("fine"), Answer(status=404, body="")]) as site:
        (shard,) = make_shards(client_for(site.url), ["q"] * 20, max_workers=1)
        results = read_results(run_shard(shard))
    assert [result.index for result in results] == list(range(20))
    assert [result.ok for result in results] == [True] + [False] * 19
    assert "not sent" in str(results[-1].error)


def test_a_shard_keeps_ids_and_positions(client_for: ClientFor) -> None:
    """The results of each shard have the custom_id and the index of the whole input."""
    prompts = [{"custom_id": f"id-{n}", "prompt": f"q{n}"} for n in range(4)]
    with FakeSite(echo) as site:
        shards = list(make_shards(client_for(site.url), prompts, shard_size=2))
        for client_factory in (None, factory(site.url)):
            answers = [run_shard(shard, client_factory) for shard in shards]
            results = [result for answer in answers for result in read_results(answer)]
            assert [(result.index, result.custom_id) for result in results] == [
                (n, f"id-{n}") for n in range(4)
            ]


def test_an_error_in_a_worker_comes_back_complete(client_for: ClientFor) -> None:
    """The driver gets the worker's error with its type and all its attributes."""
    cut = Answer("half", end="cut")
    with FakeSite([cut]) as site:
        client = client_for(site.url)
        (here,) = client.batch(["q"])
        (shard,) = make_shards(client, ["q"])
        (there,) = read_results(run_shard(shard))
    assert type(there.error) is type(here.error)
    assert here.error is not None
    assert there.error is not None
    assert vars(there.error).keys() >= vars(here.error).keys()
    assert (there.text, there.attempts) == (here.text, here.attempts)


def test_shards_are_made_of_rows(client_for: ClientFor) -> None:
    """make_shards fills a template from rows, takes their ids, and leaves out empty ones."""
    rows = [{"key": "a", "river": "Nile"}, {"key": "b", "river": ""}, {"key": "c", "river": "Po"}]
    with FakeSite(echo) as site:
        shards = make_shards(
            client_for(site.url), rows, template="Where is {river}?", id="key", skip_empty=True
        )
        results = [result for shard in shards for result in read_results(run_shard(shard))]
    assert [(result.custom_id, result.text) for result in results] == [
        ("a", "echo Where is Nile?"),
        ("c", "echo Where is Po?"),
    ]


def test_a_bad_prompt_makes_no_shard(client_for: ClientFor) -> None:
    """make_shards raises the error of a prompt that cannot be sent, with its place."""
    with pytest.raises(ValueError, match="prompt 2"):
        list(make_shards(client_for(UNREACHABLE), ["fine", ""]))
