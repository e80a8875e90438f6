"""What goes into a batch: the forms of a prompt, files, ids, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aichatfree.testing import FakeSite
from helpers import UNREACHABLE, ClientFor, echo


def test_prompts_of_all_forms_can_be_mixed(client_for: ClientFor) -> None:
    """Strings, message lists, dicts, and lines of an OpenAI batch file can be in one batch."""
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
    with FakeSite(echo) as site:
        results = list(client_for(site.url, dialect="openai").batch(prompts))
    assert [(result.custom_id, result.text) for result in results] == [
        ("0", "echo as text"),
        ("1", "echo as messages"),
        ("2", "echo as a dict"),
        ("mine", "echo as messages"),
        ("line-1", "echo as parts"),
    ]
    temperatures = {request.text: request.json.get("temperature") for request in site.requests}
    assert (temperatures["as parts"], temperatures["as text"]) == (0.5, None)


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
@pytest.mark.parametrize("path_type", [str, Path])
def test_prompts_are_read_from_files(
    client_for: ClientFor, tmp_path: Path, name: str, path_type: Callable[[Path], Any]
) -> None:
    """The path of a file stands for the prompts in it: JSON lines, lines of text, or a table."""
    text, options = FILES[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with FakeSite(echo) as site:
        results = client_for(site.url).batch(path_type(tmp_path / name), **options)
        assert [result.text for result in results] == ["echo one", "echo two"]


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "incomplete JSON": ("p.jsonl", b'{"prompt": "one"}\n{"prompt": "tw', "line 2.*JSON"),
    "no prompt": ("p.jsonl", b'{"prompt": "one"}\n{"text": "two"}\n', "line 2.*prompt"),
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
    "unknown format": ("p.doc", b"one\n", ".jsonl"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_with_a_bad_line_is_refused(
    client_for: ClientFor, tmp_path: Path, kind: str
) -> None:
    """A line that cannot be sent is named in a ValueError before anything is sent or written."""
    name, content, words = BAD_FILES[kind]
    (tmp_path / name).write_bytes(content)
    output = tmp_path / "answers.jsonl"
    with FakeSite(echo) as site:
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
    (["x"], {"column": "a"}, TypeError, "column"),
    (["x"], {"client_factory": object}, ValueError, "executor="),
    (["x"], {"output": "no/such/directory/a.jsonl"}, FileNotFoundError, "directory.*not exist"),
    ("no-such-file.jsonl", {}, FileNotFoundError, "does not exist"),
]


@pytest.mark.parametrize(("prompts", "options", "error", "words"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_at_once(
    client_for: ClientFor, prompts: Any, options: Any, error: type[Exception], words: str
) -> None:
    """An argument that cannot be used is an error of batch() itself, and nothing is sent."""
    with FakeSite(echo) as site:
        with pytest.raises(error, match=words):
            client_for(site.url).batch(prompts, **options)
        assert site.requests == []


def test_a_bad_prompt_of_a_lazy_input_fails_alone(client_for: ClientFor) -> None:
    """A bad prompt that a generator yields becomes a failed result; the others are answered."""
    with FakeSite(echo) as site:
        results = list(client_for(site.url).batch(iter(["one", "", "three"])))
    assert [result.ok for result in results] == [True, False, True]
    assert isinstance(results[1].error, ValueError)


def test_a_unicode_error_in_place_of_a_prompt_fails_alone(client_for: ClientFor) -> None:
    """A UnicodeDecodeError that an input yields as a prompt is named in that prompt's result."""
    broken: Any = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    with FakeSite(echo) as site:
        bad, good = client_for(site.url).batch(iter([broken, "q"]))
    assert isinstance(bad.error, ValueError)
    assert "invalid start byte" in str(bad.error)
    assert good.ok


def test_ids_may_be_numbers_in_any_order(client_for: ClientFor) -> None:
    """Ids such as "7", "0" and "01" are accepted as long as none is used twice."""
    prompts = [{"custom_id": name, "prompt": "x"} for name in ("7", "3", "0", "01")]
    with FakeSite(echo) as site:
        results = list(client_for(site.url).batch(prompts))
    assert [result.custom_id for result in results] == ["7", "3", "0", "01"]


def test_messages_may_have_further_keys(client_for: ClientFor, tmp_path: Path) -> None:
    """Keys of a message that JSON cannot represent prevent neither an answer nor its reuse."""
    message: Any = {"role": "user", "content": "x", "when": object(), 3: "mixed"}
    with FakeSite(echo) as site:
        client = client_for(site.url)
        assert client.batch([[message]], output=tmp_path / "a.jsonl").run().answered == 1
        assert client.batch([[message]], output=tmp_path / "a.jsonl").run().reused == 1


def test_no_file_of_the_user_is_overwritten(client_for: ClientFor, tmp_path: Path) -> None:
    """A file that a batch would write beside its output, but that is not from a batch, is kept."""
    contents = {
        "a.errors.jsonl": '{"prompt": "mine"}\n',
        "b.run.json": '{"mine": 1}\n',
        "c.errors.jsonl": "mine\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    client = client_for(UNREACHABLE)
    with pytest.raises(ValueError, match="overwrite"):
        client.batch(tmp_path / "a.errors.jsonl", output=tmp_path / "a.jsonl")
    for name in ("b", "c"):
        with pytest.raises(ValueError, match="not from a batch"):
            client.batch(["x"], output=tmp_path / f"{name}.jsonl")
    assert {name: (tmp_path / name).read_text() for name in contents} == contents
