"""The output file of a batch: its lines, what is reused, and what is refused."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aichatfree import ServerError
from aichatfree._settings import ClientOptions
from aichatfree.batch import BatchResult
from aichatfree.batch._journal import SYNC_INTERVAL, Journal
from aichatfree.batch._prompts import Item
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor, echo

from .journals import rows_of

SETTINGS = {"model": "m", "system": None}


def write(path: Path, results: list[BatchResult]) -> None:
    journal = Journal(path, SETTINGS)
    for result in results:
        journal.append(Item(result.index, result.custom_id, f"q{result.custom_id}"), result)
    journal.close()


# --- lines ------------------------------------------------------------------------------------


def test_an_answer_is_a_json_line(tmp_path: Path) -> None:
    """Each answer is one line of JSON that any tool can read, with the custom_id first."""
    path = tmp_path / "a.jsonl"
    write(path, [BatchResult('quote " and \\', 0, "Привет\u2028\n", None, 2, 1.5)])
    assert path.read_bytes().startswith(b'{"custom_id":"')
    (row,) = rows_of(path)
    assert len(row.pop("prompt_digest")) == 16
    assert row.pop("time").endswith("Z")
    assert row == {
        "custom_id": 'quote " and \\',
        "index": 0,
        "text": "Привет\u2028\n",
        "attempts": 2,
        "elapsed": 1.5,
        "site": "",
    }


def test_an_incomplete_line_of_failures_does_not_stop_the_next_run(tmp_path: Path) -> None:
    """If a run is killed while it writes its first failure, the next run can begin all the same."""
    (tmp_path / "a.errors.jsonl").write_bytes(b'{"cus')
    write(tmp_path / "a.jsonl", [BatchResult("x", 0, "answer")])
    assert not (tmp_path / "a.errors.jsonl").exists()


def test_failures_have_their_own_file(tmp_path: Path) -> None:
    """Failures are written to a file beside the output, which the next run removes."""
    path = tmp_path / "a.jsonl"
    write(path, [BatchResult("x", 0, "half", ServerError("broken", status_code=502))])
    assert path.read_bytes() == b""
    (row,) = rows_of(tmp_path / "a.errors.jsonl")
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
def test_any_prefix_of_a_journal_can_be_continued(
    tmp_path: Path, answers: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Wherever a crash cut the file off, exactly its complete lines are known to the next run."""
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    write(path, [BatchResult(name, n, text) for n, (name, text) in enumerate(answers)])
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    kept = content[:cut].count(b"\n")
    journal = Journal(path, SETTINGS)
    try:
        for n, (name, text) in enumerate(answers):
            earlier = journal.earlier(Item(n, name, f"q{name}"))
            assert (earlier is not None) == (n < kept)
            assert earlier is None or (earlier.text, earlier.reused) == (text, True)
        for n, (name, text) in enumerate(answers):
            if n >= kept:
                journal.append(Item(n, name, f"q{name}"), BatchResult(name, n, text))
    finally:
        journal.close()
    assert [(row["custom_id"], row["text"]) for row in rows_of(path)] == answers


# --- another run ------------------------------------------------------------------------------


def test_failures_are_retried_by_the_next_run(client_for: ClientFor, tmp_path: Path) -> None:
    """The next run sends what failed, and the file of failures is gone if it succeeds."""
    path = tmp_path / "a.jsonl"
    with FakeSite([Answer("a"), Answer(status=400, body=""), Answer("c"), Answer("b")]) as site:
        client = client_for(site.url)
        first = client.batch(["1", "2", "3"], output=path, max_workers=1).run()
        assert (first.answered, first.failed) == (2, 1)
        assert [row["index"] for row in rows_of(tmp_path / "a.errors.jsonl")] == [1]
        second = client.batch(["1", "2", "3"], output=path)
        assert [result.text for result in second] == ["a", "b", "c"]
        assert (second.summary.answered, second.summary.reused) == (1, 2)
    assert not (tmp_path / "a.errors.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "other"}, "the model was .* and is other now"),
        ({"system": "Be brief."}, "there was no system prompt, and there is one now"),
        ({"dialect": "openai"}, "dialect was gemini and is openai now"),
    ],
)
def test_an_output_of_other_settings_is_refused(
    client_for: ClientFor, tmp_path: Path, changes: ClientOptions, words: str
) -> None:
    """The setting that differs is named, nothing is sent, and the file is not changed."""
    path = tmp_path / "a.jsonl"
    with FakeSite(echo) as site:
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
    """An answer in the output is never reused for a prompt that has changed."""
    path = tmp_path / "a.jsonl"
    with FakeSite(echo) as site:
        client = client_for(site.url)
        client.batch(["one", "two"], output=path).run()
        changed = ["one", "changed"]
        with pytest.raises(ValueError, match=r"'1' .position 1. has changed"):
            client.batch(iter(changed) if lazy else changed, output=path).run()
        assert len(site.requests) == 2


def test_without_resume_an_output_with_answers_is_refused(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """resume=False neither adds to the answers of an earlier run nor deletes them."""
    path = tmp_path / "a.jsonl"
    with FakeSite(echo) as site:
        client_for(site.url).batch(["one"], output=path, resume=False).run()
        with pytest.raises(ValueError, match="has answers already"):
            client_for(site.url).batch(["one"], output=path, resume=False)
    assert len(rows_of(path)) == 1


@pytest.mark.parametrize(
    "content",
    [b"not ours\n", b'{"text": "x"}\n', b'[1]\n{"custom_id":"a"}\n', b'{"custom_id":3}\n'],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A line that is not an answer of a batch is named, and the file is not changed."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="line 1"):
        Journal(path, SETTINGS)
    assert path.read_bytes() == content


def test_an_output_that_cannot_be_written_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """An output that is a directory, or in a missing one, is an OSError before anything is sent."""
    (tmp_path / "a.jsonl").mkdir()
    with FakeSite(echo) as site:
        for path in (tmp_path / "a.jsonl", tmp_path / "none" / "b.jsonl"):
            with pytest.raises(OSError, match=r"regular file|does not exist"):
                client_for(site.url).batch(["one"], output=path)
        assert site.requests == []


# --- the disk ---------------------------------------------------------------------------------


def test_a_full_disk_loses_no_line(tmp_path: Path) -> None:
    """If the disk is full, append() raises the OSError and the file ends with a complete line."""
    path = tmp_path / "a.jsonl"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(path, SETTINGS)
    written, full = 0, None
    try:
        # The file size limit of a process makes a write fail in the middle, as a full disk does.
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
    assert len(rows_of(path)) == written > 0
    assert path.read_bytes().endswith(b"\n")


def test_a_full_disk_stops_the_batch(
    client_for: ClientFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the OSError, and the answers before it are in the output."""
    path = tmp_path / "a.jsonl"
    append = Journal.append

    def full(self: Journal, item: Item, result: BatchResult) -> None:
        if item.index >= 5:
            raise OSError(28, "No space left on device")
        append(self, item, result)

    monkeypatch.setattr(Journal, "append", full)
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(
            [f"q{n}" for n in range(100)], output=path, max_workers=1
        )
        with pytest.raises(OSError, match="No space left"):
            batch.run()
        assert len(site.requests) < 100
    assert len(rows_of(path)) == 5


def test_lines_are_forced_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers and failures are forced to the disk once a second and at the end of the run."""
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    journal = Journal(tmp_path / "a.jsonl", SETTINGS)
    journal.append(Item(0, "0", "q"), BatchResult("0", 0, "a"))
    assert forced == []
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1.5 * SYNC_INTERVAL)
    journal.append(Item(1, "1", "q"), BatchResult("1", 1, "half", ServerError("broken")))
    assert len(forced) == 2
    journal.append(Item(2, "2", "q"), BatchResult("2", 2, "c"))
    journal.close()
    assert len(forced) == 4
