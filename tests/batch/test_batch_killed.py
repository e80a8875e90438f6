"""Batches that are killed or interrupted: no answer is lost, and the next run continues."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from aichatfree.gateway import Gateway, SmolLM2
from aichatfree.testing import Answer, FakeSite, Request
from helpers import AT_ONCE, COMMAND, HANG, LONG, ClientFor, Terminal, echo, terminal, wait_until

from .journals import ids_in

WORKERS = 8

#: Seconds that the site takes for an answer, so that kills and interrupts hit requests in flight.
DELAY = 0.01


def slow_echo(request: Request) -> Answer:
    return Answer(echo(request), delay=DELAY)


def batch_arguments(prompts: Path, output: Path) -> list[str]:
    return ["batch", str(prompts), "-o", str(output), "--max-workers", str(WORKERS)]


def write_questions(path: Path, count: int) -> None:
    path.write_text("".join(f"question {n}\n" for n in range(count)))


def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """After 25 kills each prompt has one answer, and only requests in flight were sent twice."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    write_questions(prompts, 1500)
    chance = random.Random(7)
    kills = 0
    with FakeSite(slow_echo) as site:
        environment = {**os.environ, "AICHATFREE_BASE_URL": site.url}
        while True:
            process = subprocess.Popen(
                [*COMMAND, *batch_arguments(prompts, output)],
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            if kills < 25:
                before = len(site.requests)
                while process.poll() is None and len(site.requests) == before:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.15))
                process.kill()
                kills += process.wait() == -signal.SIGKILL
            elif process.wait(4 * LONG) == 0:
                break
        sent = Counter(request.text for request in site.requests)
    assert kills == 25
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(1500)]
    assert set(sent) == {f"question {n}" for n in range(1500)}
    assert sum(sent.values()) - len(sent) <= kills * WORKERS
    assert {path.name for path in tmp_path.iterdir()} == {
        *("p.txt", "a.jsonl", "a.run.json", "a.events.jsonl")
    }


def interrupt_after(session: Terminal, site: FakeSite, requests: int) -> None:
    wait_until(lambda: len(site.requests) >= requests)
    session.interrupt()


def test_ctrl_c_keeps_the_answers_in_flight(tmp_path: Path) -> None:
    """After Ctrl-C the requests in flight are answered, and the next run sends only the rest."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    write_questions(prompts, 100)

    def answer(request: Request) -> Answer:
        return Answer(echo(request), delay=20 * DELAY)

    with FakeSite(answer) as site:
        with terminal(*batch_arguments(prompts, output), url=site.url) as session:
            interrupt_after(session, site, 20)
            interrupted = time.monotonic()
            session.wait_for("Finished results are in")
            assert session.finish() == 130
            assert time.monotonic() - interrupted < AT_ONCE
        assert len(ids_in(output)) == len(site.requests)
        again = subprocess.run(
            [*COMMAND, *batch_arguments(prompts, output), "--unordered"],
            capture_output=True,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
            timeout=LONG,
        )
        assert again.returncode == 0, again.stderr
        assert len(site.requests) == 100
    assert again.stdout == b""


def test_a_second_ctrl_c_cancels_the_requests_in_flight(tmp_path: Path) -> None:
    """After a second Ctrl-C the command ends at once; the answers before it are kept."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    write_questions(prompts, 100)
    answers = [Answer("quick")] * 4 + [Answer("never", delay=HANG)]
    with (
        FakeSite(answers) as site,
        terminal(*batch_arguments(prompts, output), url=site.url) as session,
    ):
        # The quick answers are in the journal once their threads have sent the next prompts.
        interrupt_after(session, site, 4 + WORKERS)
        session.wait_for("Ctrl-C again")
        interrupted = time.monotonic()
        session.interrupt()
        assert session.finish() == 130
        assert time.monotonic() - interrupted < AT_ONCE
    assert len(ids_in(output)) == 4


def test_ctrl_c_prints_finished_results_without_an_output_file() -> None:
    """On Ctrl-C, results that wait behind a slow earlier prompt are printed too."""

    def answer(request: Request) -> Answer:
        return Answer(echo(request), delay=100 * DELAY if request.text == "q0" else 0)

    with FakeSite(answer) as site:
        process = subprocess.Popen(
            [*COMMAND, "batch", "--max-workers", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
        )
        assert process.stdin is not None
        process.stdin.write("".join(f"q{n}\n" for n in range(10)).encode())
        process.stdin.flush()  # and not closed, so that the run does not end by itself
        wait_until(lambda: len(site.requests) == 10)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130, err
    assert {json.loads(line)["custom_id"] for line in out.splitlines()} >= set("123456789")


def test_a_left_batch_can_be_continued(client_for: ClientFor, tmp_path: Path) -> None:
    """The second run sends only what is missing, and returns all results in order."""
    path = tmp_path / "a.jsonl"
    prompts = [f"q{n}" for n in range(400)]
    with FakeSite(echo) as site:
        client = client_for(site.url)
        with client.batch(prompts, output=path, max_workers=4) as first:
            for _ in range(10):
                next(first)
        done, sent = len(ids_in(path)), len(site.requests)
        assert 10 <= done < 400
        second = client.batch(prompts, output=path)
        results = list(second)
        assert [result.text for result in results] == [f"echo {prompt}" for prompt in prompts]
        assert second.summary.reused == done == sum(result.reused for result in results)
        assert len(site.requests) - sent == 400 - done
    assert sorted(ids_in(path), key=int) == [str(n) for n in range(400)]


@pytest.mark.xdist_group("embedded model")
@pytest.mark.timeout(300)  # the model takes 25 s on a machine with nothing else to do
def test_200_prompts_to_the_local_model_survive_two_interruptions(tmp_path: Path) -> None:
    """A run on a real model that is stopped twice with Ctrl-C is finished by the third call."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"Say {n}.\n" for n in range(200)))
    model = SmolLM2(max_tokens=3)
    model.load()
    codes = []
    served = Gateway(model, secret="s3cret", allow_truncated=True)
    with contextlib.closing(model), served as gateway:
        environment = {
            **os.environ,
            "AICHATFREE_BASE_URL": gateway.url,
            "AICHATFREE_SECRET": "s3cret",
        }
        for enough in (60, 130, 201):
            with subprocess.Popen(
                [*COMMAND, *batch_arguments(prompts, output)],
                stderr=subprocess.DEVNULL,
                env=environment,
            ) as process:
                try:
                    while process.poll() is None and len(ids_in(output)) < enough:
                        time.sleep(0.05)
                    if process.poll() is None:
                        process.send_signal(signal.SIGINT)
                    codes.append(process.wait(LONG))
                finally:
                    process.kill()
    assert codes == [130, 130, 0]
    assert sorted(ids_in(output), key=int) == [str(n) for n in range(200)]
