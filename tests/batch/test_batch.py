from __future__ import annotations

import concurrent.futures
import itertools
import json
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aichatfree import AIChatFreeError, RateLimitError, RetryPolicy, Timeout
from aichatfree.batch._thread_cache import Crew
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor


def echo(request: Request) -> str:
    return f"echo {request.text}"


def slower_when_earlier(request: Request) -> Answer:
    number = int(request.text.split()[-1])
    return Answer(f"echo {request.text}", delay=0.1 if number % 8 == 0 else 0)


def test_results_come_in_the_order_of_the_prompts(client_for: ClientFor) -> None:
    """Whatever finishes first, the caller sees input order."""
    prompts = [f"question {n}" for n in range(64)]
    with FakeSite([slower_when_earlier]) as site:
        results = list(client_for(site.url).batch(prompts))
    assert [r.text for r in results] == [f"echo {p}" for p in prompts]
    assert [r.index for r in results] == list(range(64))
    assert [r.custom_id for r in results] == [str(n) for n in range(64)]
    assert all(r.ok and r.attempts == 1 and r.latency > 0 for r in results)


def test_results_can_come_as_they_are_completed(client_for: ClientFor) -> None:
    """With ordered=False a slow prompt holds nobody back."""
    with FakeSite([slower_when_earlier]) as site:
        prompts = [f"question {n}" for n in range(32)]
        results = list(client_for(site.url).batch(prompts, ordered=False))
    assert sorted(r.index for r in results) == list(range(32))
    assert [r.index for r in results] != list(range(32))


def test_prompts_of_every_form_are_asked(client_for: ClientFor) -> None:
    """Strings, message lists, dicts, and lines of an OpenAI batch file mix."""
    messages = [{"role": "user", "content": "as messages"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "as parts"}]}]
    line = {
        "custom_id": "line-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "messages": parts, "temperature": 0.5},
    }
    prompts: list[Any] = [
        "as text",
        messages,
        {"prompt": "as a dict"},
        {"custom_id": "mine", "messages": messages},
        line,
    ]
    with FakeSite([echo]) as site:
        results = list(client_for(site.url, dialect="openai").batch(prompts))
        temperatures = {r.text: r.json.get("temperature") for r in site.requests}
        assert (temperatures["as parts"], temperatures["as text"]) == (0.5, None)
    assert [r.text for r in results] == [
        "echo as text",
        "echo as messages",
        "echo as a dict",
        "echo as messages",
        "echo as parts",
    ]
    assert [r.custom_id for r in results] == ["0", "1", "2", "mine", "line-1"]


FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "p.txt": ("one\n\ntwo\r\n", {}),
    "p.jsonl": (
        '\ufeff{"prompt": "one"}\n\n{"messages": [{"role": "user", "content": "two"}]}',
        {},
    ),
    "p.csv": ("custom_id,prompt\na,one\nb,two\n", {}),
    "q.csv": ('id,question\n1,"one"\n2,"two"\n', {"column": "question"}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", [str, Path])
def test_prompts_are_read_from_files(
    client_for: ClientFor, tmp_path: Path, name: str, kind: Callable[[Path], Any]
) -> None:
    """A path names a file of JSON lines, plain lines or a table."""
    text, options = FILES[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with FakeSite([echo]) as site:
        results = client_for(site.url).batch(kind(tmp_path / name), **options)
        assert [r.text for r in results] == ["echo one", "echo two"]


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "torn JSON": ("p.jsonl", b'{"prompt": "one"}\n{"prompt": "tw', "line 2.*JSON"),
    "no prompt in it": ("p.jsonl", b'{"prompt": "one"}\n{"text": "two"}\n', "line 2.*prompt"),
    "null": ("p.jsonl", b'{"prompt": "one"}\nnull\n', "line 2"),
    "not UTF-8": ("p.txt", b"one\ncaf\xe9\n", "line 2.*UTF-8"),
    "repeated id": (
        "p.jsonl",
        b'{"custom_id": "a", "prompt": "x"}\n{"custom_id": "a", "prompt": "y"}\n',
        "line 2.*'a'.*twice",
    ),
    "empty prompt": ("p.jsonl", b'{"prompt": "one"}\n{"prompt": ""}\n', "line 2.*empty"),
    "unknown role": (
        "p.jsonl",
        b'{"messages": [{"role": "robot", "content": "x"}]}\n',
        "line 1.*robot",
    ),
    "missing column": ("p.csv", b"a,b\n1,2\n", "column 'prompt'.*'a', 'b'"),
    "broken table": ("p.csv", b'prompt\none\n"two', "line"),
    "empty file": ("p.txt", b"\n\n", "no prompts"),
    "unknown kind": ("p.doc", b"one\n", ".jsonl"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused_by_its_line(
    client_for: ClientFor, tmp_path: Path, kind: str
) -> None:
    """The line is named before anything is sent or written."""
    name, content, words = BAD_FILES[kind]
    (tmp_path / name).write_bytes(content)
    output = tmp_path / "answers.jsonl"
    with FakeSite([echo]) as site:
        with pytest.raises(ValueError, match=f"(?s){words}"):
            client_for(site.url).batch(tmp_path / name, output=output)
        assert site.requests == []
    assert not output.exists()


BAD_ARGUMENTS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("What is this?", {}, ValueError, "list"),
    (3, {}, TypeError, "iterable"),
    ({"prompt": "x"}, {}, TypeError, "iterable"),
    ([], {}, ValueError, "no prompts"),
    (["x", ""], {}, ValueError, "prompt 2"),
    (["x", 3], {}, TypeError, "prompt 2"),
    ([{"custom_id": 3, "prompt": "x"}], {}, TypeError, "custom_id"),
    ([{"prompt": "x", "messages": []}], {}, ValueError, "either"),
    (["x", {"custom_id": "0", "prompt": "y"}], {}, ValueError, "twice"),
    ([{"custom_id": "1", "prompt": "x"}, "y"], {}, ValueError, "twice"),
    ([{"prompt": "x", "temperature": "hot"}], {}, TypeError, "temperature"),
    (["x"], {"max_workers": 0}, ValueError, "max_workers"),
    (["x"], {"max_workers": "4"}, TypeError, "max_workers"),
    (["x"], {"max_errors": -1}, ValueError, "max_errors"),
    (["x"], {"shard_size": 0}, ValueError, "shard_size"),
    (["x"], {"executor": object()}, TypeError, "Executor"),
    (["x"], {"output": "answers.txt"}, ValueError, ".jsonl"),
    (["x"], {"column": "a"}, ValueError, "column"),
    (["x"], {"output": "no/such/folder/a.jsonl"}, FileNotFoundError, "folder"),
    ("no-such-file.jsonl", {}, FileNotFoundError, "no file"),
]


@pytest.mark.parametrize(("prompts", "options", "error", "words"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_at_once(
    client_for: ClientFor, prompts: Any, options: Any, error: type[Exception], words: str
) -> None:
    """The call itself raises, and nothing is sent."""
    with FakeSite([echo]) as site:
        with pytest.raises(error, match=words):
            client_for(site.url).batch(prompts, **options)
        assert site.requests == []


def test_a_bad_prompt_of_a_lazy_input_is_a_failure_of_its_own(client_for: ClientFor) -> None:
    """Where it cannot be known before, the others are answered all the same."""
    with FakeSite([echo]) as site:
        results = list(client_for(site.url).batch(iter(["one", "", "three"])))
    assert [r.ok for r in results] == [True, False, True]
    assert isinstance(results[1].error, ValueError)


def test_a_unicode_error_in_place_of_a_prompt_is_named(client_for: ClientFor) -> None:
    """An input that hands on what it could not decode fails there, and only there."""
    broken: Any = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    with FakeSite([echo]) as site:
        bad, good = client_for(site.url).batch(iter([broken, "q"]))
    assert isinstance(bad.error, ValueError)
    assert "invalid start byte" in str(bad.error)
    assert good.ok


def test_an_error_belongs_to_its_prompt(client_for: ClientFor) -> None:
    """One failure fails one prompt, with its partial text, and the rest go on."""

    def answer(request: Request) -> Answer:
        if request.text == "question 3":
            return Answer("half", end="cut")
        return Answer(echo(request))

    with FakeSite([answer]) as site:
        batch = client_for(site.url).batch([f"question {n}" for n in range(10)])
        results = list(batch)
    assert [r.index for r in results if not r.ok] == [3]
    assert results[3].text == "half"
    assert results[3].attempts == 5
    assert (batch.summary.answered, batch.summary.failed) == (9, 1)


def test_endless_input_is_pulled_no_further_than_needed(client_for: ClientFor) -> None:
    """What is pulled ahead is bounded, and leaving early stops the sending."""
    pulled = itertools.count()
    with FakeSite([echo]) as site:
        with client_for(site.url).batch((f"q {n}" for n in pulled), max_workers=4) as results:
            first = list(itertools.islice(results, 10))
        time.sleep(0.1)  # for what was on its way
        sent = len(site.requests)
        time.sleep(0.1)
        assert len(site.requests) == sent
    assert [r.text for r in first] == [f"echo q {n}" for n in range(10)]
    assert next(pulled) <= 10 + 16 * 4 + 1


def test_nothing_is_sent_before_the_first_result_is_asked_for(client_for: ClientFor) -> None:
    """Making a batch costs nothing."""
    with FakeSite([echo]) as site:
        client_for(site.url).batch(["one"])
        time.sleep(0.05)
        assert site.requests == []


def threads_of_batches() -> int:
    return sum(thread.name == "aichatfree-batch" for thread in threading.enumerate())


def test_no_thread_is_left_behind(client_for: ClientFor) -> None:
    """Whether a batch is finished or left, its threads are gone a moment later."""
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        client.batch(["x"] * 50).run()
        with client.batch(["x"] * 500) as results:
            next(results)
        abandoned = client.batch(["x"] * 500)
        next(abandoned)
        del abandoned
        deadline = time.monotonic() + 10
        while threads_of_batches() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert threads_of_batches() == 0


def test_the_next_batch_uses_the_threads_of_the_last(client_for: ClientFor) -> None:
    """Many small batches, as in a worker of an executor, start no more threads than one."""
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        for _ in range(10):
            client.batch(["x"] * 16, max_workers=4).run()
            assert threads_of_batches() <= 4


def test_a_thread_that_goes_leaves_the_count_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that another idle thread takes first is no reason to wait for a thread that has gone."""

    class TakenByAnother(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            raise queue.Empty

        def get_nowait(self) -> Any:
            raise queue.Empty

        def empty(self) -> bool:
            return False

    crew = Crew()
    monkeypatch.setattr(crew, "_given", TakenByAnother())
    done = threading.Event()
    crew.do(done.set)
    assert done.wait(10)
    deadline = time.monotonic() + 10
    while crew._idle and time.monotonic() < deadline:
        time.sleep(0.01)
    second = threading.Event()
    crew.do(second.set)
    assert second.wait(10)


HOPELESS = {
    "wrong password": Answer(status=401, body='{"error":{"message":"Invalid password."}}'),
    "wrong secret": Answer(status=401, body='{"error":{"message":"Invalid signature."}}'),
    "wrong path": Answer(status=404, body="Not found"),
    "a web page": Answer("<html>", content_type="text/html"),
}


@pytest.mark.parametrize("kind", HOPELESS)
def test_an_error_that_all_would_meet_stops_the_run(client_for: ClientFor, kind: str) -> None:
    """Ten thousand prompts are not sent to be refused one by one."""
    with FakeSite([HOPELESS[kind]]) as site:
        with pytest.raises(AIChatFreeError, match="every prompt"):
            client_for(site.url).batch(["x"] * 10_000, max_workers=4).run()
        assert len(site.requests) <= 4


def test_a_host_that_does_not_exist_stops_the_run(client_for: ClientFor) -> None:
    """A name that cannot be looked up is nobody's prompt's fault."""
    client = client_for("http://no-such-host.invalid", retry=RetryPolicy(max_attempts=1))
    with pytest.raises(AIChatFreeError, match="does not exist"):
        client.batch(["x"] * 1000, max_workers=2).run()


@pytest.mark.parametrize("allowed", [0, 5])
def test_max_errors_stops_the_run(client_for: ClientFor, allowed: int) -> None:
    """One failure more than allowed is enough."""
    with FakeSite([Answer(status=500, body="")]) as site:
        batch = client_for(site.url, retry=None).batch(
            ["x"] * 1000, max_workers=1, max_errors=allowed
        )
        with pytest.raises(AIChatFreeError, match=f"more than {allowed} prompts failed"):
            batch.run()
        assert len(site.requests) == allowed + 1


def test_rejections_are_not_failures(client_for: ClientFor) -> None:
    """However often the site turns a request away as too many, it is answered in the end."""
    turn = itertools.count()

    def answer(request: Request) -> Answer:
        if next(turn) % 3:
            return Answer(status=500, body="Quota exceeded")
        return Answer(echo(request))

    with FakeSite([answer]) as site:
        results = list(client_for(site.url).batch(["q0", "q1"], max_workers=2))
    assert all(r.ok for r in results)


def test_a_long_retry_after_says_that_the_quota_is_gone(client_for: ClientFor) -> None:
    """The user is told in the site's own words, and the site is left alone."""
    gone = Answer(status=429, body="come back tomorrow", headers={"Retry-After": "86400"})
    with FakeSite([gone]) as site:
        with pytest.raises(AIChatFreeError, match="come back tomorrow"):
            client_for(site.url).batch(["x"] * 100, max_workers=4).run()
        assert len(site.requests) <= 4


def test_identical_prompts_are_sent_once_if_asked(client_for: ClientFor) -> None:
    """dedupe=True answers all of them with one request."""
    prompts = ["same", "other", "same", "same", "other"]
    with FakeSite([echo]) as site:
        batch = client_for(site.url).batch(prompts, dedupe=True)
        results = list(batch)
        assert [r.text for r in results] == [f"echo {p}" for p in prompts]
        assert [r.reused for r in results] == [False, False, True, True, True]
        assert len(site.requests) == 2
        assert batch.summary.reused == 3
        client_for(site.url).batch(prompts).run()
        assert len(site.requests) == 7


def test_the_summary_counts(client_for: ClientFor) -> None:
    """Answered, failed and the time are known while it runs and after."""
    with FakeSite([Answer("a"), Answer(status=400, body=""), Answer("b")]) as site:
        batch = client_for(site.url).batch(["1", "2", "3"], max_workers=1)
        next(batch)
        assert batch.summary.answered >= 1
        assert not batch.summary.complete
        summary = batch.run()
    assert (summary.answered, summary.failed, summary.done) == (2, 1, 3)
    assert summary.complete
    assert summary.elapsed > 0
    assert "2 answered, 1 failed" in str(summary)


def test_a_told_limit_is_kept_from_the_first_request(client_for: ClientFor) -> None:
    """max_requests_per_minute spaces the requests, and shows the wait in the summary."""
    with FakeSite([echo]) as site:
        batch = client_for(site.url, max_requests_per_minute=1200).batch(["x"] * 20)
        summary = batch.run()
        times = sorted(request.received for request in site.requests)
    assert times[-1] - times[0] >= 19 / 20 * 0.95
    assert summary.waited > 0


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_limit_must_be_a_number(client_for: ClientFor, bad: float) -> None:
    """A limit that is none is refused when the client is made."""
    with pytest.raises(ValueError, match="max_requests_per_minute"):
        client_for("http://127.0.0.1:1", max_requests_per_minute=bad)
    with pytest.raises(TypeError, match="max_requests_per_minute"):
        client_for("http://127.0.0.1:1", max_requests_per_minute="60")


def test_an_input_that_raises_stops_the_run_with_its_error(client_for: ClientFor) -> None:
    """What the user's own iterator raises comes out as it is, after what it gave is answered."""

    def prompts() -> Iterator[str]:
        yield "one"
        raise RuntimeError("my own bug")

    with FakeSite([echo]) as site, pytest.raises(RuntimeError, match="my own bug"):
        client_for(site.url).batch(prompts()).run()


def test_a_single_call_gives_up_on_rejections(client_for: ClientFor) -> None:
    """generate() still raises after its attempts; only batches wait for ever."""
    with FakeSite([Answer(status=429, body="")]) as site:
        with pytest.raises(RateLimitError):
            client_for(site.url, retry=RetryPolicy(2, initial_wait=0.01)).generate("Hi")
        assert len(site.requests) == 2


def test_results_are_plain_data(client_for: ClientFor) -> None:
    """A result can be taken apart for a table."""
    with FakeSite([echo]) as site:
        (result,) = client_for(site.url).batch(["prompt-words"])
    assert json.dumps([result.custom_id, result.index, result.text, result.ok])


def test_a_long_wait_holds_the_prompt_and_no_thread(client_for: ClientFor) -> None:
    """While one prompt waits for its Retry-After, the only worker answers the others."""
    seen: list[str] = []

    def answer(request: Request) -> Answer:
        seen.append(request.text)
        if request.text == "q0" and seen.count("q0") == 1:
            return Answer(status=429, body="", headers={"Retry-After": "2"})
        return Answer(echo(request))

    with FakeSite([answer]) as site:
        batch = client_for(site.url, retry=RetryPolicy(jitter=0)).batch(
            ["q0", "q1", "q2"], max_workers=1
        )
        results = list(batch)
    assert seen == ["q0", "q1", "q2", "q0"]
    assert [r.text for r in results] == ["echo q0", "echo q1", "echo q2"]
    assert results[0].attempts == 2


def test_a_stray_503_is_a_failure_like_any_other(client_for: ClientFor) -> None:
    """Without a word about a wait it does not make the pacer slow down."""
    with FakeSite([Answer(status=503, body="")] + [Answer("a")] * 200) as site:
        batch = client_for(site.url).batch(["q"] * 100)
        assert all(r.ok for r in batch)
        assert batch.summary.waited == 0


def test_the_total_does_not_count_the_time_in_line(client_for: ClientFor) -> None:
    """Prompts that wait long for their first turn have their whole time all the same."""
    with FakeSite([echo]) as site:
        client = client_for(site.url, max_requests_per_minute=600, timeout=Timeout(total=0.5))
        batch = client.batch(["q"] * 12, max_workers=12)
        assert all(r.ok for r in batch)
        assert batch.summary.elapsed > 1


def test_ids_of_the_users_own_may_be_numbers_in_any_order(client_for: ClientFor) -> None:
    """Only a real repetition is refused."""
    prompts = [{"custom_id": name, "prompt": "x"} for name in ("7", "3", "0", "01")]
    with FakeSite([echo]) as site:
        results = list(client_for(site.url).batch(prompts))
    assert [r.custom_id for r in results] == ["7", "3", "0", "01"]


def test_results_do_not_wait_for_a_slow_input(client_for: ClientFor) -> None:
    """What is finished is handed over while the input takes its time."""
    pulled: list[int] = []

    def prompts() -> Iterator[str]:
        for n in range(10):
            time.sleep(0.1)
            pulled.append(n)
            yield f"q{n}"

    with FakeSite([echo]) as site, client_for(site.url).batch(prompts()) as results:
        assert next(results).text == "echo q0"
        assert len(pulled) < 5


def test_finished_results_are_handed_over_before_a_stop_is_raised(client_for: ClientFor) -> None:
    """A run that stops by itself gives what it has, behind a gap in the order too."""

    def answer(request: Request) -> Answer:
        if request.text == "q0":
            return Answer("late", delay=0.3)
        if request.text == "q5":
            return Answer(status=404, body="", delay=0.1)
        return Answer(echo(request))

    results: list[Any] = []
    with FakeSite([answer]) as site:
        batch = client_for(site.url).batch([f"q{n}" for n in range(100)], max_workers=2)
        with pytest.raises(AIChatFreeError, match="every prompt"):
            results.extend(batch)
        sent = {request.text for request in site.requests}
    assert {f"q{r.index}" for r in results} == sent


def test_a_run_can_be_begun_again_after_a_used_up_quota(client_for: ClientFor) -> None:
    """The next batch of the same client asks the site anew."""
    gone = Answer(status=429, body="tomorrow", headers={"Retry-After": "86400"})
    with FakeSite([gone, "fine"]) as site:
        client = client_for(site.url)
        with pytest.raises(AIChatFreeError, match="tomorrow"):
            client.batch(["x"], max_workers=1).run()
        assert client.batch(["x"], max_workers=1).run().answered == 1


def test_a_site_that_nobody_gets_through_to_stops_the_run(client_for: ClientFor) -> None:
    """A challenge page or a dead port is not met ten thousand times."""
    page = Answer(status=403, body="<html>Just a moment</html>")
    with FakeSite([page]) as site:
        with pytest.raises(AIChatFreeError, match="did not get through"):
            client_for(site.url).batch(["x"] * 1000, max_workers=4).run()
        assert len(site.requests) < 50


def test_an_input_beside_the_output_is_not_touched(client_for: ClientFor, tmp_path: Path) -> None:
    """Neither the prompts nor a stranger's file is overwritten because of its name."""
    (tmp_path / "a.errors.jsonl").write_text('{"prompt": "mine"}\n')
    (tmp_path / "b.run.json").write_text('{"mine": 1}\n')
    (tmp_path / "c.errors.jsonl").write_text("mine\n")
    client = client_for("http://127.0.0.1:1")
    with pytest.raises(ValueError, match="overwrite"):
        client.batch(tmp_path / "a.errors.jsonl", output=tmp_path / "a.jsonl")
    for name in ("b", "c"):
        with pytest.raises(ValueError, match="not from a batch"):
            client.batch(["x"], output=tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.errors.jsonl").read_text() == '{"prompt": "mine"}\n'
    assert (tmp_path / "b.run.json").read_text() == '{"mine": 1}\n'
    assert (tmp_path / "c.errors.jsonl").read_text() == "mine\n"


def test_messages_with_more_in_them_are_kept(client_for: ClientFor, tmp_path: Path) -> None:
    """Keys that JSON does not know cost no answer that was paid for."""
    message: Any = {"role": "user", "content": "x", "when": object(), 3: "mixed"}
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        assert client.batch([[message]], output=tmp_path / "a.jsonl").run().answered == 1
        assert client.batch([[message]], output=tmp_path / "a.jsonl").run().reused == 1


def test_an_executor_that_gives_up_is_told(client_for: ClientFor) -> None:
    """Shards that somebody else cancelled are no end of the run."""

    def slow(request: Request) -> Answer:
        return Answer(echo(request), delay=0.3)

    executor = ThreadPoolExecutor(1)
    with FakeSite([slow]) as site:
        batch = client_for(site.url).batch(["a", "b", "c"], executor=executor, shard_size=1)
        threading.Timer(0.1, executor.shutdown, (False,), {"cancel_futures": True}).start()
        with pytest.raises(AIChatFreeError, match="executor failed"):
            batch.run()
        assert not batch.summary.complete


def test_closing_from_another_thread_ends_the_iteration(client_for: ClientFor) -> None:
    """Whoever waits for the next result is told."""
    with FakeSite([Answer("never", delay=30)]) as site:
        batch = client_for(site.url).batch(["x"])
        threading.Timer(0.3, batch.close).start()
        with pytest.raises(AIChatFreeError, match="closed"):
            next(batch)


def test_a_log_line_does_not_land_in_the_bar(
    client_for: ClientFor, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What the start of a batch has to say comes before the bar is drawn."""
    drawn_before: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            drawn_before.append(capsys.readouterr().err)

    caplog.set_level(logging.INFO, "aichatfree.batch")
    listener = Listener()
    with FakeSite([echo]) as site, ThreadPoolExecutor(1) as executor:
        client = client_for(site.url, max_requests_per_minute=6000)
        logging.getLogger("aichatfree.batch").addHandler(listener)
        try:
            client.batch(["one"], executor=executor, progress=True).run()
        finally:
            logging.getLogger("aichatfree.batch").removeHandler(listener)
    assert drawn_before == [""]
    assert "1/1" in capsys.readouterr().err


def test_a_result_finds_the_bar_out_of_its_way(
    client_for: ClientFor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever prints results on a terminal begins at an empty line."""
    with FakeSite([echo]) as site:
        for _ in client_for(site.url).batch(["one", "two"], progress=True):
            drawn = capsys.readouterr().err
            assert "prompts" in drawn or not drawn
            assert drawn.rpartition("\r")[2] == ""


@pytest.mark.parametrize("where", ["threads", "executor"])
def test_ctrl_c_just_before_a_wait_is_noticed_soon(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Python sees it only between two waits, so none of those for the end of a batch is endless."""
    waits: list[float | None] = []

    def wait_for_event(event: threading.Event, timeout: float | None = None) -> bool:
        if sys._getframe(1).f_globals["__name__"] == "aichatfree.batch._threads":
            waits.append(timeout)
        return real_event_wait(event, timeout)

    def wait(futures: Any, timeout: float | None = None) -> Any:
        waits.append(timeout)
        return real_wait(futures, timeout)

    real_event_wait, real_wait = threading.Event.wait, concurrent.futures.wait
    with FakeSite([Answer("slow", delay=0.5)]) as site, ThreadPoolExecutor(1) as executor:
        batch = client_for(site.url).batch(
            ["x"] * 2, executor=executor if where == "executor" else None, shard_size=1
        )
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Event, "wait", wait_for_event)
            patch.setattr(concurrent.futures, "wait", wait)
            with pytest.raises(KeyboardInterrupt):
                list(batch)
    assert waits
    assert all(timeout is not None and timeout <= 1 for timeout in waits)
