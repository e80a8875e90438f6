from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aichatfree import AIChatFreeError, ServerError
from aichatfree._settings import ClientOptions
from aichatfree.batch._journal import Journal
from aichatfree.batch._prompts import Item
from aichatfree.batch._results import BatchResult
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor

SETTINGS = {"model": "m", "system": None}


def echo(request: Request) -> str:
    return f"echo {request.text}"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def write(path: Path, results: list[BatchResult]) -> None:
    journal = Journal(path, SETTINGS)
    for result in results:
        journal.append(Item(result.index, result.custom_id, f"q{result.custom_id}"), result)
    journal.close()


def test_an_answer_is_a_line_with_its_id_first(tmp_path: Path) -> None:
    """The file is plain JSON lines that any tool can read."""
    path = tmp_path / "a.jsonl"
    write(path, [BatchResult('quote " and \\', 0, "Привет\u2028\n", None, 2, 1.5)])
    assert path.read_bytes().startswith(b'{"custom_id":"')
    (row,) = rows(path)
    assert (row["custom_id"], row["index"], row["text"]) == ('quote " and \\', 0, "Привет\u2028\n")
    assert (row["attempts"], row["elapsed"]) == (2, 1.5)


def test_failures_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    """They are beside the answers, and gone when the next run begins."""
    path = tmp_path / "a.jsonl"
    write(path, [BatchResult("x", 0, "half", ServerError("broken", status_code=502))])
    assert path.read_bytes() == b""
    (row,) = rows(tmp_path / "a.errors.jsonl")
    assert row["custom_id"] == "x"
    assert row["error"] == {"type": "ServerError", "message": "broken", "status_code": 502}
    assert row["partial_text"] == "half"
    write(path, [])
    assert not (tmp_path / "a.errors.jsonl").exists()


ANSWERS = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        st.text(st.characters(codec="utf-8")),
    ),
    max_size=8,
    unique_by=lambda answer: answer[0],
)


@given(answers=ANSWERS, data=st.data())
@settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_prefix_of_a_journal_resumes_right(
    tmp_path: Path, answers: list[tuple[str, str]], data: st.DataObject
) -> None:
    """However much of the file a crash left, whole lines are known and nothing else is."""
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    write(path, [BatchResult(name, n, text) for n, (name, text) in enumerate(answers)])
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    journal = Journal(path, SETTINGS)
    try:
        assert len(journal) == kept
        for n, (name, text) in enumerate(answers):
            earlier = journal.earlier(Item(n, name, f"q{name}"))
            assert (earlier is not None) == (n < kept)
            assert earlier is None or (earlier.text, earlier.reused) == (text, True)
        for n, (name, text) in enumerate(answers):
            if n >= kept:
                journal.append(Item(n, name, f"q{name}"), BatchResult(name, n, text))
    finally:
        journal.close()
    assert [(row["custom_id"], row["text"]) for row in rows(path)] == answers


def test_a_run_goes_on_where_it_stopped(client_for: ClientFor, tmp_path: Path) -> None:
    """The second run sends only what is missing, and yields all results in order."""
    path = tmp_path / "a.jsonl"
    prompts = [f"q{n}" for n in range(400)]
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        with client.batch(prompts, output=path, max_workers=4) as first:
            for _ in range(10):
                next(first)
        done = len(rows(path))
        sent = len(site.requests)
        assert 10 <= done < 400
        second = client.batch(prompts, output=path)
        results = list(second)
        assert [r.text for r in results] == [f"echo {p}" for p in prompts]
        assert second.summary.reused == done == sum(r.reused for r in results)
        assert len(site.requests) - sent == 400 - done
    assert sorted(row["index"] for row in rows(path)) == list(range(400))


def test_failures_are_tried_again(client_for: ClientFor, tmp_path: Path) -> None:
    """The next run answers what failed, and the list of failures is empty then."""
    path = tmp_path / "a.jsonl"
    with FakeSite([Answer("a"), Answer(status=400, body=""), Answer("c"), Answer("b")]) as site:
        client = client_for(site.url)
        first = client.batch(["1", "2", "3"], output=path, max_workers=1).run()
        assert (first.answered, first.failed) == (2, 1)
        assert [row["index"] for row in rows(tmp_path / "a.errors.jsonl")] == [1]
        second = client.batch(["1", "2", "3"], output=path)
        assert [r.text for r in second] == ["a", "b", "c"]
        assert (second.summary.answered, second.summary.reused) == (1, 2)
    assert not (tmp_path / "a.errors.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "other"}, "model was .* and is 'other' now"),
        ({"system": "Be brief."}, "system was None and is '[0-9a-f]{16}' now"),
        ({"dialect": "openai"}, "dialect was 'gemini'"),
    ],
)
def test_an_output_of_other_settings_is_refused(
    client_for: ClientFor, tmp_path: Path, changes: ClientOptions, words: str
) -> None:
    """What differs is named, nothing is sent, and the file stays as it was."""
    path = tmp_path / "a.jsonl"
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        client.batch(["one"], output=path).run()
        before = path.read_bytes()
        with pytest.raises(ValueError, match=words):
            client.with_options(**changes).batch(["one"], output=path)
        assert len(site.requests) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("lazy", [False, True])
def test_an_output_of_other_prompts_is_refused(
    client_for: ClientFor, tmp_path: Path, lazy: bool
) -> None:
    """An answer is never taken for that of another prompt."""
    path = tmp_path / "a.jsonl"
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        client.batch(["one", "two"], output=path).run()
        changed = ["one", "changed"]
        with pytest.raises(ValueError, match=r"'1'.*input has changed"):
            client.batch(iter(changed) if lazy else changed, output=path).run()
        assert len(site.requests) == 2


def test_without_resume_an_output_with_answers_is_refused(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """resume=False never mixes runs, and never deletes answers."""
    path = tmp_path / "a.jsonl"
    with FakeSite([echo]) as site:
        client_for(site.url).batch(["one"], output=path, resume=False).run()
        with pytest.raises(ValueError, match="has answers already"):
            client_for(site.url).batch(["one"], output=path, resume=False)
    assert len(rows(path)) == 1


def test_a_second_run_on_one_output_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """As long as the first one is at work, in this process or another."""
    path = tmp_path / "a.jsonl"
    with FakeSite([Answer("slow", delay=5)]) as site:
        client = client_for(site.url)
        first = client.batch(["one"], output=path)
        with pytest.raises(AIChatFreeError, match="another run"):
            client.batch(["one"], output=path)
        done = subprocess.run(
            [sys.executable, "-m", "aichatfree", "batch", "-", "-o", str(path)],
            input=b"one\n",
            capture_output=True,
            env={**os.environ, "AICHATFREE_BASE_URL": site.url},
            timeout=60,
        )
        assert done.returncode == 1
        assert b"another run" in done.stderr
        first.close()
        client.batch(["one"], output=path).close()


@pytest.mark.parametrize(
    "content",
    [b"not ours\n", b'{"text": "x"}\n', b'[1]\n{"custom_id":"a"}\n', b'{"custom_id":3}\n'],
)
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    """A line that cannot be an answer of a batch is named, and the file left alone."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="line 1"):
        Journal(path, SETTINGS)
    assert path.read_bytes() == content


def test_an_output_that_cannot_be_written_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """A folder in the way, or a missing one, is an OSError before anything is sent."""
    (tmp_path / "a.jsonl").mkdir()
    with FakeSite([echo]) as site:
        for path in (tmp_path / "a.jsonl", tmp_path / "none" / "b.jsonl"):
            with pytest.raises(OSError, match=r"a\.jsonl|folder"):
                client_for(site.url).batch(["one"], output=path)
        assert site.requests == []


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """The run stops with the system's error, whole lines stay, and the next run goes on."""
    path = tmp_path / "a.jsonl"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(path, SETTINGS)
    written, full = 0, None
    try:
        # The file size limit of a process fails a write in the middle, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        for n in range(100):
            journal.append(Item(n, str(n), "q"), BatchResult(str(n), n, "x" * 100))
            written += 1
    except OSError as error:
        full = error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        journal.close()
    assert isinstance(full, OSError)
    assert len(rows(path)) == written > 0
    assert path.read_bytes().endswith(b"\n")


def test_a_disk_that_fills_up_stops_the_batch(
    client_for: ClientFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the OSError, and the answers before it are in the file."""
    path = tmp_path / "a.jsonl"
    append = Journal.append

    def full(self: Journal, item: Item, result: BatchResult) -> None:
        if item.index >= 5:
            raise OSError(28, "No space left on device")
        append(self, item, result)

    monkeypatch.setattr(Journal, "append", full)
    with FakeSite([echo]) as site:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(100)], output=path, max_workers=1
        )
        with pytest.raises(OSError, match="No space left"):
            batch.run()
        assert len(site.requests) <= 7
    assert len(rows(path)) == 5


def test_what_was_written_is_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end, and each second before it, answers and failures survive a power cut."""
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    journal = Journal(tmp_path / "a.jsonl", SETTINGS)
    journal.append(Item(0, "0", "q"), BatchResult("0", 0, "a"))
    assert forced == []
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1.5)
    journal.append(Item(1, "1", "q"), BatchResult("1", 1, "half", ServerError("broken")))
    assert len(forced) == 2
    journal.append(Item(2, "2", "q"), BatchResult("2", 2, "c"))
    journal.close()
    assert len(forced) == 4
