from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client as DaskClient
from distributed import LocalCluster

from aichatfree import AIChatFreeError, Client
from aichatfree.batch._journal import Journal
from aichatfree.gateway import Gateway, SmolLM2
from aichatfree.testing import Answer, FakeSite, Request
from helpers import FAST, ClientFor, Terminal, terminal

WORKERS = 8


def echo(request: Request) -> Answer:
    return Answer(f"echo {request.text}", delay=0.01)


def ids_in(path: Path) -> list[str]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line)["custom_id"] for line in lines[:-1]]


def batch_command(prompts: Path, output: Path) -> list[str]:
    command = [sys.executable, "-m", "aichatfree", "batch", str(prompts), "-o", str(output)]
    return [*command, "--max-workers", str(WORKERS)]


def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """After 25 kills each id is in the file once, and no more was sent twice than was in flight."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"question {n}\n" for n in range(1500)))
    random.seed(7)
    kills = 0
    with FakeSite([echo]) as site:
        environment = {**os.environ, "AICHATFREE_BASE_URL": site.url}
        while True:
            process = subprocess.Popen(
                batch_command(prompts, output), stderr=subprocess.DEVNULL, env=environment
            )
            if kills < 25:
                before = len(site.requests)
                while process.poll() is None and len(site.requests) == before:
                    time.sleep(0.002)
                time.sleep(random.uniform(0, 0.15))
                process.kill()
                kills += process.wait() == -signal.SIGKILL
            elif process.wait(120) == 0:
                break
        sent = Counter(request.text for request in site.requests)
    assert kills == 25
    done = ids_in(output)
    assert sorted(done, key=int) == [str(n) for n in range(1500)]
    assert set(sent) == {f"question {n}" for n in range(1500)}
    assert sum(sent.values()) - len(sent) <= kills * WORKERS


def send_signal_when_busy(session: Terminal, site: FakeSite, count: int) -> None:
    end = time.monotonic() + 20
    while len(site.requests) < count and time.monotonic() < end:
        time.sleep(0.01)
    session.interrupt()


def test_ctrl_c_keeps_what_is_under_way_and_says_how_to_go_on(tmp_path: Path) -> None:
    """It ends with exit code 130 soon after the last answer, each sent prompt answered once."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"question {n}\n" for n in range(100)))

    def slow(request: Request) -> Answer:
        return Answer(f"echo {request.text}", delay=0.2)

    with FakeSite([slow]) as site:
        with terminal(*batch_command(prompts, output)[3:], url=site.url) as session:
            send_signal_when_busy(session, site, 20)
            began = time.monotonic()
            session.wait_for("go on")
            assert session.finish() == 130
            assert time.monotonic() - began < 3
        assert len(ids_in(output)) == len(site.requests)
        again = subprocess.run(
            [*batch_command(prompts, output), "--unordered"],
            capture_output=True,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
            timeout=120,
        )
        assert again.returncode == 0, again.stderr
        assert len(site.requests) == 100
    assert again.stdout == b""


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """What is under way is broken off then; what was finished stays."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"question {n}\n" for n in range(100)))
    answers = [Answer("quick")] * 4 + [Answer("never", delay=30)]
    with (
        FakeSite(answers) as site,
        terminal(*batch_command(prompts, output)[3:], url=site.url) as session,
    ):
        send_signal_when_busy(session, site, 4 + WORKERS)  # so the quick answers are written down
        session.wait_for("Ctrl-C again")
        began = time.monotonic()
        session.interrupt()
        assert session.finish() == 130
        assert time.monotonic() - began < 3
    assert len(ids_in(output)) == 4


# --- executors --------------------------------------------------------------------------------


def answered_once(site: FakeSite, output: Path, count: int) -> None:
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(count)]
    assert {request.text for request in site.requests} == {f"q{n}" for n in range(count)}


def test_a_process_pool_answers_a_batch(client_for: ClientFor, tmp_path: Path) -> None:
    """Shards travel to the workers, and results come back in order to the one journal."""
    output = tmp_path / "a.jsonl"
    with FakeSite([echo]) as site, ProcessPoolExecutor(2) as executor:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(300)], executor=executor, output=output, shard_size=32
        )
        assert [r.text for r in batch] == [f"echo q{n}" for n in range(300)]
        answered_once(site, output, 300)
        assert len(site.requests) == 300
        assert executor.submit(abs, -1).result() == 1  # it was not shut down


def test_a_killed_pool_worker_is_told_and_the_next_run_finishes(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """The pool is broken for good, which the error says; the answers so far are kept."""
    output = tmp_path / "a.jsonl"
    prompts = [f"q{n}" for n in range(400)]
    with FakeSite([echo]) as site:
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
        answered_once(site, output, 400)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    # Its profiler deadlocks CPython before 3.11.9 now and then, when threads come and go
    # (python/cpython#106883).
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as running,
    ):
        yield running


def test_dask_answers_a_batch(client_for: ClientFor, tmp_path: Path, cluster: Any) -> None:
    """A dask client's executor is one like any other."""
    output = tmp_path / "a.jsonl"
    with FakeSite([echo]) as site, DaskClient(cluster) as engine:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(300)], executor=engine.get_executor(), output=output
        )
        assert [r.text for r in batch] == [f"echo q{n}" for n in range(300)]
        answered_once(site, output, 300)


def test_a_killed_dask_worker_costs_no_answer(
    client_for: ClientFor, tmp_path: Path, cluster: Any
) -> None:
    """All are answered, each once, and no more is sent again than the shards in its hands."""
    output = tmp_path / "a.jsonl"
    shard_size, count = 16, 600
    with FakeSite([echo]) as site, DaskClient(cluster) as engine:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(count)],
            executor=engine.get_executor(),
            output=output,
            shard_size=shard_size,
        )
        results = [next(batch) for _ in range(50)]
        victim = next(iter(engine.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        results += list(batch)
        assert [r.text for r in results] == [f"echo q{n}" for n in range(count)]
        answered_once(site, output, count)
        window = 2 * 2
        assert len(site.requests) - count <= window * shard_size


def test_the_command_line_uses_dask(tmp_path: Path, cluster: Any) -> None:
    """`aichatfree batch --dask ADDRESS` asks from the workers of that scheduler."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"q{n}\n" for n in range(100)))
    with FakeSite([echo]) as site:
        done = subprocess.run(
            [*batch_command(prompts, output), "--dask", cluster.scheduler_address],
            capture_output=True,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert b"100 answered, 0 failed" in done.stderr
        answered_once(site, output, 100)


def test_secrets_do_not_travel(client_for: ClientFor) -> None:
    """A client that workers could not make is refused at once; a factory is the way out."""
    with (
        FakeSite([echo], verify=True, secret="s3cret", password="p") as site,
        ProcessPoolExecutor(1) as executor,
    ):
        client = client_for(site.url, secret="s3cret", password="p")
        with pytest.raises(ValueError, match="client_factory="):
            client.batch(["q0"], executor=executor)
        factory = Factory(site.url)
        (result,) = client.batch(["q0"], executor=executor, client_factory=factory)
        assert result.text == "echo q0"


class Factory:
    """Makes a worker's client; picklable, as executors need it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self) -> Client:
        return Client(self._url, secret="s3cret", password="p", retry=FAST)

    def __hash__(self) -> int:
        return hash(self._url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factory) and other._url == self._url


def test_secrets_of_the_environment_reach_the_workers(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker reads its own environment, and the shard has nothing secret in it."""
    from aichatfree.batch import make_shards, read_results, run_shard

    monkeypatch.setenv("AICHATFREE_SECRET", "s3cret")
    monkeypatch.setenv("AICHATFREE_PASSWORD", "passw0rd")
    with FakeSite([echo], verify=True, secret="s3cret", password="passw0rd") as site:
        (shard,) = make_shards(client_for(site.url), ["q0", "q1"])
        assert b"s3cret" not in shard
        assert b"passw0rd" not in shard
        assert [r.text for r in read_results(run_shard(shard))] == ["echo q0", "echo q1"]


HOPELESS: dict[str, Callable[[], Answer]] = {
    "wrong password": lambda: Answer(status=401, body='{"error":{"message":"Invalid password."}}')
}


def test_a_hopeless_shard_stops_the_run(client_for: ClientFor) -> None:
    """A worker that is refused is not asked for the next ten thousand."""
    with FakeSite([HOPELESS["wrong password"]()]) as site, ProcessPoolExecutor(2) as executor:
        batch = client_for(site.url).batch(["x"] * 5000, executor=executor)
        with pytest.raises(AIChatFreeError, match="every prompt"):
            batch.run()
        assert len(site.requests) <= 4 * 64
        with contextlib.suppress(StopIteration):
            next(batch)


def test_a_run_on_an_executor_goes_on_where_it_stopped(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """Few missing answers among many old ones do not wait for a shard to fill."""
    output = tmp_path / "a.jsonl"
    prompts = [f"q{n}" for n in range(1000)]
    with FakeSite([echo]) as site, ThreadPoolExecutor(1) as executor:
        client = client_for(site.url)
        client.batch(prompts, output=output, max_workers=64).run()
        lines = output.read_bytes().splitlines(keepends=True)
        output.write_bytes(b"".join(line for line in lines if b'"custom_id":"3"' not in line))
        batch = client.batch(prompts, executor=executor, output=output)
        assert [r.text for r in batch] == [f"echo {p}" for p in prompts]
        assert batch.summary.answered == 1
        same = client.batch(["same"] * 1000, executor=executor, dedupe=True, ordered=False)
        assert same.run().done == 1000


def test_an_unfinished_shard_says_which_prompts_are_missing(client_for: ClientFor) -> None:
    """One result for each prompt, in order, whatever stopped the shard."""
    from aichatfree.batch import make_shards, read_results, run_shard

    answers = [Answer("fine"), Answer(status=404, body="")]
    with FakeSite(answers) as site:
        (shard,) = make_shards(client_for(site.url), ["q"] * 20, max_workers=1)
        results = read_results(run_shard(shard))
    assert [r.index for r in results] == list(range(20))
    assert [r.ok for r in results] == [True] + [False] * 19
    assert "not sent" in str(results[-1].error)


def test_a_dead_driver_does_not_keep_its_output_locked(tmp_path: Path) -> None:
    """Forked workers that outlive it hold none of its files."""
    output = tmp_path / "a.jsonl"
    code = (
        "import os, sys, multiprocessing, time\n"
        "from aichatfree.batch._journal import Journal\n"
        "journal = Journal(sys.argv[1], {})\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(5,))\n"
        "child.start(); print(child.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    driver = subprocess.run([sys.executable, "-c", code, str(output)], stdout=subprocess.PIPE)
    Journal(output, {}).close()
    os.kill(int(driver.stdout), signal.SIGKILL)


def test_ctrl_c_prints_what_is_finished_on_standard_output() -> None:
    """Without an output file, results behind a slow prompt are not lost."""

    def answer(request: Request) -> Answer:
        return Answer(f"echo {request.text}", delay=1.0 if request.text == "q0" else 0)

    with FakeSite([answer]) as site:
        process = subprocess.Popen(
            [sys.executable, "-m", "aichatfree", "batch", "--max-workers", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
        )
        assert process.stdin is not None
        process.stdin.write("".join(f"q{n}\n" for n in range(10)).encode())
        process.stdin.flush()  # and left open, so that the run does not end by itself
        while len(site.requests) < 10:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert {json.loads(line)["custom_id"] for line in out.splitlines()} >= set("123456789")


def test_200_prompts_to_the_local_model_survive_two_interruptions(tmp_path: Path) -> None:
    """A real run on a real model, stopped twice with Ctrl-C, is finished by the third call."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"Say {n}.\n" for n in range(200)))
    model = SmolLM2(max_tokens=3)
    model.load()
    codes = []
    with contextlib.closing(model), Gateway(model, secret="s3cret") as gateway:
        environment = {
            **os.environ,
            "AICHATFREE_BASE_URL": gateway.url,
            "AICHATFREE_SECRET": "s3cret",
        }
        for enough in (60, 130, 201):
            process = subprocess.Popen(
                batch_command(prompts, output), stderr=subprocess.DEVNULL, env=environment
            )
            while process.poll() is None and len(ids_in(output)) < enough:
                time.sleep(0.05)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            codes.append(process.wait(30))
    assert codes == [130, 130, 0]
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(200)]
