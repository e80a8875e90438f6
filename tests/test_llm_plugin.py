from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
import pytest

from aichatfree import StreamInterruptedError
from aichatfree.gateway import Gateway
from aichatfree.testing import Answer, FakeSite, Request
from helpers import Echo

LLM = [sys.executable, "-m", "llm"]
ASK = ["-m", "aichatfree"]


@pytest.fixture(autouse=True)
def llm_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where ``llm`` keeps its keys and its log, so that it is not the user's own."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    return tmp_path / "llm"


def run(*arguments: str, url: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"AICHATFREE_BASE_URL": url} if url else {})}
    command = [*LLM, *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, encoding="utf-8", timeout=60, env=environment
    )


def start(*arguments: str, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*LLM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "AICHATFREE_BASE_URL": url},
    )


def echo(request: Request) -> str:
    return f"echo {request.text}"


def said(request: Request) -> list[tuple[str, str]]:
    return [(m["role"], m["parts"][0]["text"]) for m in request.json["messages"]]


# --- answers ----------------------------------------------------------------------------------


def test_llm_lists_the_model() -> None:
    """It is among the models, with its options and without a feature that it has not."""
    listed = run("models", "list", "-m", "aichatfree", "--options").stdout
    assert "AIChatFree: aichatfree" in listed
    for option in ("base_url", "dialect", "model", "temperature", "timeout"):
        assert f"\n    {option}: " in listed
    assert listed.split("Features:")[1].split() == [
        *("-", "streaming", "Keys:", "key:", "aichatfree"),
        *("env_var:", "AICHATFREE_PASSWORD"),
    ]


def test_text_is_out_before_the_answer_ends() -> None:
    """The site goes on only when the first chunk has been read from the command's output."""
    read = threading.Event()

    def text() -> Iterator[str]:
        yield "first, "
        assert read.wait(60)
        yield "then the rest"

    with (
        FakeSite(Answer(stream=text())) as site,
        start(*ASK, "Hello", url=site.url) as process,
    ):
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 100)
        read.set()
        rest, errors = process.communicate(timeout=60)
    assert (first, rest, errors) == (b"first, ", b"then the rest\n", b"")
    assert process.returncode == 0


def test_an_answer_that_is_not_streamed_is_asked_for_until_it_is_whole() -> None:
    """With --no-stream a broken answer is sent again, and only the whole one is printed."""
    with FakeSite([Answer("half", end="cut"), Answer("who", "le")]) as site:
        done = run(*ASK, "--no-stream", "Hello", url=site.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")


def test_the_next_prompt_of_a_conversation_brings_all_of_it() -> None:
    """``llm -c`` sends the system prompt and the turns of earlier commands."""
    with FakeSite(echo) as site:
        run(*ASK, "-s", "Be brief.", "Who wrote 戦争?", url=site.url)
        run("-c", "And then?", url=site.url)
        done = run("-c", "And when?", url=site.url)
    assert done.stdout == "echo And when?\n"
    assert said(site.requests[2]) == [
        ("user", "Be brief.\n\nWho wrote 戦争?"),
        ("model", "echo Be brief.\n\nWho wrote 戦争?"),
        ("user", "And then?"),
        ("model", "echo And then?"),
        ("user", "And when?"),
    ]


def test_a_chat_keeps_its_history() -> None:
    """``llm chat`` sends all earlier turns with each line."""
    with FakeSite(echo) as site:
        done = run("chat", *ASK, url=site.url, stdin="one\ntwo\nquit\n")
    assert done.returncode == 0, done.stderr
    assert said(site.requests[1]) == [("user", "one"), ("model", "echo one"), ("user", "two")]


def test_options_reach_the_site() -> None:
    """Each -o has its effect; what is set for good with ``llm models options`` too."""
    with FakeSite(echo) as site:
        run("models", "options", "set", "aichatfree", "base_url", site.url)
        bad = run("models", "options", "set", "aichatfree", "base_url", "example.com")
        assert bad.returncode == 1
        options = ["-o", "dialect", "openai", "-o", "temperature", "0.5", "-o", "model", "big"]
        done = run(*ASK, "-s", "Be brief.", *options, "Hello")
    assert done.stdout == "echo Hello\n", done.stderr
    body = site.requests[0].json
    assert (body["temperature"], body["model"]) == (0.5, "big")
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_the_timeout_ends_an_answer() -> None:
    """-o timeout is the time that the whole answer may take, however lively it is."""
    with FakeSite(Answer(stream=("word " for _ in range(10_000)), gap=0.05)) as site:
        done = run(*ASK, "-o", "timeout", "0.5", "Hello", url=site.url)
    assert done.returncode == 1
    assert done.stdout.startswith("word word ")
    assert done.stderr.startswith("Error: ")
    assert "0.5" in done.stderr


# --- keys -------------------------------------------------------------------------------------


def test_the_keys_of_llm_are_the_password_and_the_secret(llm_folder: Path) -> None:
    """A gateway that demands both takes them from ``llm keys``, and the log has neither."""
    run("keys", "set", "aichatfree", "--value", "the-passphrase")
    run("keys", "set", "aichatfree-secret", "--value", "the-signature-key")
    with Gateway(Echo(), secret="the-signature-key", password="the-passphrase") as gateway:
        done = run(*ASK, "Hello", url=gateway.url)
        run(*ASK, "Hello", "-o", "base_url", gateway.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")
    log = run("logs", "-n", "0", "--json").stdout
    assert log.count('"Hello"') >= 2
    for path in llm_folder.iterdir():
        if path.name != "keys.json":
            assert b"the-passphrase" not in path.read_bytes()
            assert b"the-signature-key" not in path.read_bytes()


def test_the_environment_has_the_keys_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """AICHATFREE_PASSWORD and AICHATFREE_SECRET do where ``llm`` keeps no key."""
    monkeypatch.setenv("AICHATFREE_PASSWORD", "p")
    monkeypatch.setenv("AICHATFREE_SECRET", "s")
    with Gateway(Echo(), secret="s", password="p") as gateway:
        assert run(*ASK, "Hello", url=gateway.url).stdout == "Hello\n"


def test_no_key_is_demanded_where_there_is_none() -> None:
    """A site without a password is asked without one."""
    with FakeSite(echo, verify=True) as site:
        assert run(*ASK, "Hello", url=site.url).returncode == 0
    assert site.requests[0].json["pass"] is None


def test_a_wrong_key_is_told_in_the_words_of_llm() -> None:
    """The error says where ``llm`` keeps the password, and does not repeat it."""
    with Gateway(Echo(), password="right") as gateway:
        done = run(*ASK, "--key", "wrong-one", "Hello", url=gateway.url)
    assert done.returncode == 1
    assert "llm keeps them as its keys aichatfree" in done.stderr
    assert "wrong-one" not in done.stderr


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[*ASK, "Hello"], ["chat", *ASK]])
def test_an_answer_that_breaks_off_is_an_error(command: list[str]) -> None:
    """One line says so, the exit code is 1, and the log has no such answer."""
    with FakeSite(Answer("half", " of it", end="cut")) as site:
        done = run(*command, url=site.url, stdin="Hello\n" if "chat" in command else "")
    assert done.returncode == 1
    assert done.stdout.endswith("half of it")
    assert done.stderr.startswith("Error: The connection to 127.0.0.1:")
    assert done.stderr.count("\n") == 1
    assert run("logs", "--json").stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "temperature", "hot", "Hello"], "temperature\n  Input should be a valid number"),
        (["-o", "temperature", "101", "Hello"], "temperature\n  Input should be less than"),
        (["-o", "temperature", "0.5", "Hello"], "sites of the gemini dialect ignore the temp"),
        (["-o", "timeout", "0", "Hello"], "timeout\n  Input should be greater than 0"),
        (["-o", "dialect", "latin", "Hello"], "dialect\n  Input should be 'gemini' or 'openai'"),
        (["-o", "base_url", "example", "Hello"], "needs http:// or https://"),
        (["-o", "password", "p", "Hello"], "password\n  Extra inputs are not permitted"),
        ([""], "the prompt is empty"),
        (["  "], "the prompt is empty"),
        (["-s", "Be brief.", ""], "the prompt is empty"),
        (["-a", __file__, "Hello"], "does not support attachments"),
        (["--schema", "name, age int", "Hello"], "does not support schemas"),
        (["-T", "llm_time", "Hello"], "does not support tools"),
    ],
)
def test_what_cannot_be_sent_is_an_error(arguments: list[str], words: str) -> None:
    """It is told before anything is sent, without a traceback."""
    with FakeSite() as site:
        done = run(*ASK, *arguments, url=site.url)
    assert (done.returncode, done.stdout, site.requests) == (1, "", [])
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr


@pytest.mark.parametrize("more", [[], ["--no-stream"]])
def test_ctrl_c_stops_an_answer_at_once(more: list[str]) -> None:
    """The command ends, and the site sees that it has gone."""
    with (
        FakeSite(Answer("first", end="stall")) as site,
        start(*ASK, *more, "Hello", url=site.url) as process,
    ):
        end = time.monotonic() + 60
        while not site.requests and time.monotonic() < end:
            time.sleep(0.01)
        if not more:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 100) == b"first"
        process.send_signal(signal.SIGINT)
        assert site.requests[0].disconnected.wait(30)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (1, b"Aborted!")


# --- from Python ------------------------------------------------------------------------------


def model_for(monkeypatch: pytest.MonkeyPatch, url: str) -> Any:
    monkeypatch.setenv("AICHATFREE_BASE_URL", url)
    return llm.get_model("aichatfree")


def test_a_conversation_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks come as the site sends them, and turns are kept."""
    with FakeSite([Answer("Hel", "lo", gap=0.1), "again"]) as site:
        talk = model_for(monkeypatch, site.url).conversation()
        assert list(talk.prompt("Hi", system="Be brief.")) == ["Hel", "lo"]
        assert talk.prompt("Once more").text() == "again"
    assert [role for role, _ in said(site.requests[1])] == ["user", "model", "user"]


def test_an_error_in_python_has_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is llm's own kind of error, and its cause has what arrived."""
    with FakeSite(Answer("half", end="cut")) as site:
        response = model_for(monkeypatch, site.url).prompt("Hi")
        with pytest.raises(llm.ModelError) as caught:
            response.text()
    cause = caught.value.__cause__
    assert isinstance(cause, StreamInterruptedError)
    assert cause.partial_text == "half"


def test_an_answer_that_is_not_read_on_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed, and no thread is left."""
    before = set(threading.enumerate())
    with FakeSite(Answer("first", end="stall")) as site:
        chunks = iter(model_for(monkeypatch, site.url).prompt("Hi"))
        assert next(chunks) == "first"
        chunks.close()
        assert site.requests[0].disconnected.wait(10)
    assert set(threading.enumerate()) <= before


def test_only_text_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with a picture in it is refused; thoughts of another model are left out."""
    picture = llm.Attachment(type="image/png", content=b"png")
    thought = llm.parts.ReasoningPart(text="hmm")
    with FakeSite(echo) as site:
        model = model_for(monkeypatch, site.url)
        with pytest.raises(llm.ModelError, match="only text"):
            model.prompt(messages=[llm.user("What is this?", picture)]).text()
        assert site.requests == []
        answered = llm.assistant("Hello", thought)
        model.prompt("And?", messages=[llm.user("Hi"), answered]).text()
    assert said(site.requests[0]) == [("user", "Hi"), ("model", "Hello"), ("user", "And?")]


def test_an_error_does_not_show_a_password_in_a_url() -> None:
    """What pydantic says of a bad URL is without the URL."""
    with pytest.raises(ValueError, match="must not hold a user name") as caught:
        llm.get_model("aichatfree").prompt("Hi", base_url="http://me:hunter2@example.com")
    assert "hunter2" not in str(caught.value)


def test_the_package_does_without_llm() -> None:
    """Importing it, and making a client, imports neither ``llm`` nor pydantic."""
    code = (
        "import sys, aichatfree; aichatfree.Client(); print({'llm', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr
