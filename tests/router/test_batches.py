"""Batches over several sites: nothing is lost, and no site stops the run while another works."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aichatfree import AIChatFreeError, Client, Router, Timeout
from aichatfree.batch import make_shards, read_results, run_shard
from aichatfree.testing import Answer, FakeSite, Request
from helpers import AT_ONCE, COMMAND, LONG, SHORT, UNREACHABLE, echo

from .sites import QUOTA, WRONG_PASSWORD, router_over, sites

PROMPTS = [f"q{number}" for number in range(400)]


def rows_of(output: Path) -> list[dict[str, Any]]:
    """The rows of an output, in the order of the prompts."""
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    return sorted(rows, key=lambda row: row["index"])


def slow_echo(request: Request) -> Answer:
    return Answer(echo(request), delay=SHORT / 10)


def failing_from(count: int, failure: Any) -> Callable[[Request], Any]:
    """A script that answers so many prompts, and from then on fails like this."""
    seen: list[Request] = []

    def script(request: Request) -> Any:
        seen.append(request)
        return slow_echo(request) if len(seen) <= count else failure

    return script


def test_the_limits_of_the_sites_add_up() -> None:
    """Two sites share a batch as their limits are, and the limit of each is kept."""
    limits = (2400, 4800)
    with sites(echo, echo) as both:
        clients = [
            Client(site.url, max_requests_per_minute=limit)
            for site, limit in zip(both, limits, strict=True)
        ]
        with router_over(*clients) as router:
            summary = router.batch(PROMPTS).run()
        assert summary.answered == len(PROMPTS)
        assert summary.elapsed > 0.9 * len(PROMPTS) / sum(limits) * 60
        shares = [len(site.requests) for site in both]
        assert shares[1] / shares[0] == pytest.approx(2, rel=0.2)
        assert summary.answered_by == {site.url: len(site.requests) for site in both}


def test_each_row_names_the_site(tmp_path: Path) -> None:
    """Each result and each row of the output says which site has answered, also when it is read
    again by a later run."""
    output = tmp_path / "a.jsonl"
    with sites(slow_echo, slow_echo) as both, router_over(*[site.url for site in both]) as router:
        results = list(router.batch(PROMPTS[:40], output=output))
        named = {request.text: site.url for site in both for request in site.requests}
        assert set(named.values()) == {site.url for site in both}
        for result, row in zip(results, rows_of(output), strict=True):
            assert result.site == row["site"] == named[PROMPTS[result.index]]
        again = list(router.batch(PROMPTS[:40], output=output))
        assert [result.site for result in again] == [result.site for result in results]


def test_the_rows_of_a_table_name_the_site(tmp_path: Path) -> None:
    """Each row of a table, and of a frame of pandas, says which site has answered."""
    output = tmp_path / "a.csv"
    with sites(slow_echo, slow_echo) as both, router_over(*[site.url for site in both]) as router:
        frame = router.batch(PROMPTS[:40], output=output).to_pandas()
        named = {request.text: site.url for site in both for request in site.requests}
    with output.open(newline="") as file:
        rows = {row["prompt"]: row["site"] for row in csv.DictReader(file)}
    assert rows == dict(zip(frame["prompt"], frame["site"], strict=True)) == named
    assert len(set(named.values())) == 2


def test_the_rows_of_one_site_name_it_too(tmp_path: Path) -> None:
    """The results and rows of a client of one site have its base URL."""
    output = tmp_path / "a.jsonl"
    with sites(echo) as (site,), Client(site.url) as client:
        (result,) = client.batch(["Hello"], output=output)
        assert result.site == rows_of(output)[0]["site"] == site.url


def test_a_site_that_is_killed_in_the_middle_loses_nothing() -> None:
    """When a site disappears with requests in flight, the other one answers all of its prompts."""
    with sites(slow_echo) as (second,):
        with FakeSite(slow_echo) as first, router_over(first.url, second.url) as router:
            results = []
            for result in router.batch(PROMPTS, max_workers=8):
                results.append(result)
                if len(results) == 50:
                    first.__exit__(None, None, None)
        assert [result.text for result in results] == [f"echo {prompt}" for prompt in PROMPTS]
        assert first.requests


def test_kill_9_and_a_resumed_run_leave_each_answer_once(tmp_path: Path) -> None:
    """After the command was killed several times, the output has each prompt once, from either
    site."""
    prompts, output = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    command = [*COMMAND, "batch", str(prompts), "-o", str(output), "--max-workers", "8"]
    with sites(slow_echo, slow_echo) as both:
        for site in both:
            command += ["--base-url", site.url]
        for _ in range(4):
            before = sum(len(site.requests) for site in both)
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while sum(len(site.requests) for site in both) < before + 40:
                time.sleep(0.005)
                assert process.poll() is None
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert subprocess.run(command, timeout=2 * LONG, capture_output=True).returncode == 0
    ids = [row["custom_id"] for row in rows_of(output)]
    assert ids == [str(number) for number in range(len(PROMPTS))]
    assert len({row["site"] for row in rows_of(output)}) == 2


@pytest.mark.parametrize("failure", [QUOTA, WRONG_PASSWORD, Answer(status=403)])
def test_a_site_that_fails_for_long_does_not_stop_the_run(failure: Answer) -> None:
    """A quota that is used up, or a password that is refused, in the middle of a run leaves the
    run to the other site."""
    scripts = failing_from(20, failure), slow_echo
    with sites(*scripts) as both, router_over(*[site.url for site in both]) as router:
        results = list(router.batch(PROMPTS[:100], max_workers=4))
    assert all(result.ok for result in results)


def test_a_run_stops_when_all_quotas_are_used_up(tmp_path: Path) -> None:
    """When every site's quota is used up, the run stops and says when to run it again; the next
    run sends only what is missing."""
    output = tmp_path / "a.jsonl"
    tomorrow = Answer(status=429, body="Quota exceeded.", headers={"Retry-After": "90000"})
    scripts = failing_from(10, QUOTA), failing_from(10, tomorrow)
    with sites(*scripts) as both, router_over(*[site.url for site in both]) as router:
        with pytest.raises(AIChatFreeError, match="Stopped because no site accepts") as caught:
            router.batch(PROMPTS, max_workers=4, output=output).run()
        assert "Run it again after" in str(caught.value)
        assert all(site.url in str(caught.value) for site in both)
        assert not (tmp_path / "a.errors.jsonl").exists()
        assert len(rows_of(output)) == 20
    with sites(slow_echo) as (site,), router_over(site.url) as router:
        summary = router.batch(PROMPTS, output=output).run()
        assert (summary.reused, summary.answered) == (20, len(PROMPTS) - 20)


def test_a_run_stops_when_all_sites_have_failed_for_good() -> None:
    """When every site refuses the password, the run stops with an error that names each site."""
    scripts = WRONG_PASSWORD, WRONG_PASSWORD
    with sites(*scripts) as both, router_over(*[site.url for site in both]) as router:
        began = time.monotonic()
        with pytest.raises(AIChatFreeError, match="Stopped because") as caught:
            router.batch(PROMPTS).run()
        assert time.monotonic() - began < AT_ONCE
    assert all(site.url in str(caught.value) for site in both)


def test_the_output_belongs_to_the_same_sites(tmp_path: Path) -> None:
    """The settings beside an output name all sites, in any order; a run with others is refused."""
    output = tmp_path / "a.jsonl"
    with sites(echo) as (site,), router_over(site.url) as router:
        router.batch(["Hello"], output=output).run()
    others = "https://a.example", "https://b.example"
    with (
        router_over(*others) as router,
        pytest.raises(ValueError, match=f"is {', '.join(others)} now"),
    ):
        router.batch(["Hello"], output=output)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_workers_of_an_executor_use_all_sites(pool: Callable[..., Any]) -> None:
    """Each worker sends its prompts to all sites, and moves them if one fails."""
    with sites(slow_echo, slow_echo) as (first, second), pool(2) as executor:
        with router_over(first.url, UNREACHABLE, second.url) as router:
            results = list(router.batch(PROMPTS[:100], executor=executor, shard_size=25))
        assert [result.text for result in results] == [f"echo {p}" for p in PROMPTS[:100]]
        used = Counter(result.site for result in results)
        assert used == {first.url: len(first.requests), second.url: len(second.requests)}


def test_workers_take_the_secrets_from_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards have the names of the variables of each site's secret, and not the secrets."""
    monkeypatch.setenv("SECRET_OF_A", "s3cret-of-a")
    monkeypatch.setenv("PASSWORD_OF_B", "password-of-b")
    with (
        FakeSite(slow_echo, secret="s3cret-of-a", verify=True) as first,
        FakeSite(slow_echo, password="password-of-b", verify=True) as second,
    ):
        path = tmp_path / "aichatfree.toml"
        path.write_text(
            f'[[site]]\nbase_url = "{first.url}"\nsecret_env = "SECRET_OF_A"\n'
            f'[[site]]\nbase_url = "{second.url}"\npassword_env = "PASSWORD_OF_B"\n'
        )
        with Router.from_file(path) as router:
            (shard,) = make_shards(router, PROMPTS[:40])
        assert b"s3cret-of-a" not in shard
        assert b"password-of-b" not in shard
        results = read_results(run_shard(shard))
        assert {result.site for result in results if result.ok} == {first.url, second.url}


def test_a_secret_from_an_argument_is_not_sent_to_workers() -> None:
    """A router whose clients have a secret of an argument is refused by an executor."""
    with (
        ThreadPoolExecutor(1) as executor,
        router_over(Client("http://a", secret="x")) as router,
        pytest.raises(ValueError, match="AICHATFREE_SECRET"),
    ):
        router.batch(["Hello"], executor=executor)


def test_the_total_time_limit_ends_a_prompt_that_all_sites_reject() -> None:
    """In a batch over several sites, a prompt that each of them rejects fails at its time limit."""

    def script(request: Request) -> Answer:
        if request.text == "bad":
            return Answer(status=429, body="Too many tokens")
        return Answer(echo(request))

    with FakeSite(script) as one, FakeSite(script) as two:
        clients = [Client(site.url) for site in (one, two)]
        with Router(clients, timeout=Timeout(total=5 * SHORT)) as router:
            started = time.monotonic()
            *good, bad = router.batch([*PROMPTS[:100], "bad"])
    assert all(result.ok for result in good)
    assert "429" in str(bad.error)
    assert time.monotonic() - started < LONG
