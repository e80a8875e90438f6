"""The model ``aichatfree`` of the ``llm`` command and of its Python API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
import pytest

from aichatfree import StreamInterruptedError
from aichatfree.gateway import Gateway
from aichatfree.testing import Answer, FakeSite, Request
from helpers import LONG, SHORT, UNREACHABLE, Echo, echo, run_python, wait_until

LLM = [sys.executable, "-m", "llm"]
ASK = ["-m", "aichatfree"]


@pytest.fixture(autouse=True)
def llm_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directory of ``llm`` for keys and logs, so that tests do not use the user's."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    return tmp_path / "llm"


def run(*arguments: str, url: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"AICHATFREE_BASE_URL": url} if url else {})}
    command = [*LLM, *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, encoding="utf-8", timeout=LONG, env=environment
    )


def start(*arguments: str, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*LLM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "AICHATFREE_BASE_URL": url},
    )


def messages_of(request: Request) -> list[tuple[str, str]]:
    return [(m["role"], m["parts"][0]["text"]) for m in request.json["messages"]]


# --- answers ----------------------------------------------------------------------------------


def test_llm_lists_the_model() -> None:
    """``llm models list`` shows the model with its options, its key, and that it streams."""
    listed = run("models", "list", "-m", "aichatfree", "--options").stdout
    assert "AIChatFree: aichatfree" in listed
    for option in ("base_url", "dialect", "model", "temperature", "timeout"):
        assert f"\n    {option}: " in listed
    assert listed.split("Features:")[1].split() == [
        *("-", "streaming", "Keys:", "key:", "aichatfree"),
        *("env_var:", "AICHATFREE_PASSWORD"),
    ]


def test_text_is_printed_while_it_arrives() -> None:
    """The first chunk can be read from ``llm`` before the site has sent the second."""
    read = threading.Event()

    def text() -> Iterator[str]:
        yield "first, "
        assert read.wait(LONG)
        yield "then the rest"

    with (
        FakeSite(Answer(stream=text())) as site,
        start(*ASK, "Hello", url=site.url) as process,
    ):
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 100)
        read.set()
        rest, errors = process.communicate(timeout=LONG)
    assert (first, rest, errors) == (b"first, ", b"then the rest\n", b"")
    assert process.returncode == 0


def test_an_answer_that_is_not_streamed_is_retried() -> None:
    """With --no-stream an answer that was cut off is retried; only a complete one is printed."""
    with FakeSite([Answer("half", end="cut"), Answer("comp", "lete")]) as site:
        done = run(*ASK, "--no-stream", "Hello", url=site.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "complete\n", "")


def test_the_sites_of_a_file_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With AICHATFREE_SITES, the sites of that file answer, unless an option names another one."""
    with FakeSite(echo) as site, FakeSite("other") as other:
        path = tmp_path / "sites.toml"
        urls = (UNREACHABLE, site.url)
        path.write_text("".join(f'[[site]]\nbase_url = "{url}"\n' for url in urls))
        monkeypatch.setenv("AICHATFREE_SITES", str(path))
        assert run(*ASK, "Hello").stdout == "echo Hello\n"
        assert run(*ASK, "-o", "base_url", other.url, "Hello").stdout == "other\n"
        assert "belong to each site" in run(*ASK, "-o", "model", "large", "Hello").stderr
        path.unlink()
        assert "sites.toml" in run(*ASK, "Hello").stderr


@pytest.mark.xdist_group("embedded model")
@pytest.mark.parametrize("more", [[], ["--no-stream"]])
def test_the_built_in_model_answers(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With AICHATFREE_BASE_URL=local the built-in model answers, whatever keys are stored."""
    run("keys", "set", "aichatfree", "--value", "of a site")
    run("keys", "set", "aichatfree-secret", "--value", "of a site")
    monkeypatch.setenv("AICHATFREE_SECRET", "of a site")
    done = run(*ASK, *more, "What is the capital of France?", url="local")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


@pytest.mark.xdist_group("embedded model")
def test_an_option_chooses_the_built_in_model() -> None:
    """-o base_url local wins over the site in the environment."""
    with FakeSite() as site:
        question = ["-o", "base_url", "local", "What is the capital of France?"]
        done = run(*ASK, *question, url=site.url)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert site.requests == []


def test_a_conversation_is_continued() -> None:
    """``llm -c`` sends the system prompt and the messages of the earlier commands."""
    with FakeSite(echo) as site:
        run(*ASK, "-s", "Be brief.", "Who wrote 戦争?", url=site.url)
        run("-c", "And then?", url=site.url)
        done = run("-c", "And when?", url=site.url)
    assert done.stdout == "echo And when?\n"
    assert messages_of(site.requests[2]) == [
        ("user", "Be brief.\n\nWho wrote 戦争?"),
        ("model", "echo Be brief.\n\nWho wrote 戦争?"),
        ("user", "And then?"),
        ("model", "echo And then?"),
        ("user", "And when?"),
    ]


def test_a_chat_keeps_its_history() -> None:
    """``llm chat`` sends all earlier messages with each line."""
    with FakeSite(echo) as site:
        done = run("chat", *ASK, url=site.url, stdin="one\ntwo\nquit\n")
    assert done.returncode == 0, done.stderr
    assert messages_of(site.requests[1]) == [
        ("user", "one"),
        ("model", "echo one"),
        ("user", "two"),
    ]


def test_options_reach_the_site() -> None:
    """Options given with -o are sent, and so are defaults set with ``llm models options``."""
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
    """-o timeout limits the time of the complete answer, even if chunks keep arriving."""
    with FakeSite(Answer(stream=("word " for _ in range(10_000)), gap=SHORT / 4)) as site:
        done = run(*ASK, "-o", "timeout", f"{3 * SHORT:g}", "Hello", url=site.url)
    assert done.returncode == 1
    assert done.stdout.startswith("word word ")
    assert done.stderr.startswith("Error: ")
    assert f"{3 * SHORT:g}" in done.stderr


# --- keys -------------------------------------------------------------------------------------


def test_the_keys_of_llm_are_the_password_and_the_secret(llm_folder: Path) -> None:
    """Password and secret come from ``llm keys``, and no other file of ``llm`` has them."""
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


def test_keys_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys in ``llm``, AICHATFREE_PASSWORD and AICHATFREE_SECRET are used."""
    monkeypatch.setenv("AICHATFREE_PASSWORD", "p")
    monkeypatch.setenv("AICHATFREE_SECRET", "s")
    with Gateway(Echo(), secret="s", password="p") as gateway:
        assert run(*ASK, "Hello", url=gateway.url).stdout == "Hello\n"


def test_no_key_is_required() -> None:
    """Without any key, the request is sent without a password."""
    with FakeSite(echo, verify=True) as site:
        assert run(*ASK, "Hello", url=site.url).returncode == 0
    assert site.requests[0].json["pass"] is None


def test_a_wrong_key_is_an_error_that_names_the_keys_of_llm() -> None:
    """The error for a wrong password says which key of ``llm`` to set, and does not repeat it."""
    with Gateway(Echo(), password="right") as gateway:
        done = run(*ASK, "--key", "wrong-one", "Hello", url=gateway.url)
    assert done.returncode == 1
    assert "llm stores them as its keys aichatfree" in done.stderr
    assert "wrong-one" not in done.stderr


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[*ASK, "Hello"], ["chat", *ASK]])
def test_an_incomplete_answer_is_an_error(command: list[str]) -> None:
    """An incomplete answer is an error in one line, with exit code 1, and is not logged."""
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
        (["-o", "dialect", "latin", "Hello"], "unknown dialect 'latin': use 'gemini' or"),
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
    """A wrong option or prompt is an error without a traceback, and nothing is sent."""
    with FakeSite() as site:
        done = run(*ASK, *arguments, url=site.url)
    assert (done.returncode, done.stdout, site.requests) == (1, "", [])
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr


@pytest.mark.parametrize("more", [[], ["--no-stream"]])
def test_ctrl_c_stops_an_answer_at_once(more: list[str]) -> None:
    """Ctrl-C ends ``llm`` and closes the connection to the site."""
    with (
        FakeSite(Answer("first", end="stall")) as site,
        start(*ASK, *more, "Hello", url=site.url) as process,
    ):
        wait_until(lambda: site.requests)
        if not more:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 100) == b"first"
        process.send_signal(signal.SIGINT)
        assert site.requests[0].disconnected.wait(LONG)
        _, errors = process.communicate(timeout=LONG)
    assert (process.returncode, errors.strip()) == (1, b"Aborted!")


# --- from Python ------------------------------------------------------------------------------


def model_for(monkeypatch: pytest.MonkeyPatch, url: str) -> Any:
    monkeypatch.setenv("AICHATFREE_BASE_URL", url)
    return llm.get_model("aichatfree")


def test_a_conversation_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation in Python yields the site's chunks and keeps its history."""
    with FakeSite([Answer("Hel", "lo", gap=SHORT), "again"]) as site:
        talk = model_for(monkeypatch, site.url).conversation()
        assert list(talk.prompt("Hi", system="Be brief.")) == ["Hel", "lo"]
        assert talk.prompt("Once more").text() == "again"
    assert [role for role, _ in messages_of(site.requests[1])] == ["user", "model", "user"]


def test_an_error_in_python_has_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete answer is an ``llm.ModelError`` whose cause has the partial text."""
    with FakeSite(Answer("half", end="cut")) as site:
        response = model_for(monkeypatch, site.url).prompt("Hi")
        with pytest.raises(llm.ModelError) as caught:
            response.text()
    cause = caught.value.__cause__
    assert isinstance(cause, StreamInterruptedError)
    assert cause.partial_text == "half"


def test_a_closed_iterator_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """If an iterator is closed early, the connection is closed and no thread remains."""
    before = set(threading.enumerate())
    with FakeSite(Answer("first", end="stall")) as site:
        chunks = iter(model_for(monkeypatch, site.url).prompt("Hi"))
        assert next(chunks) == "first"
        chunks.close()
        assert site.requests[0].disconnected.wait(LONG)
    assert set(threading.enumerate()) <= before


def test_only_text_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with an attachment is rejected; another model's reasoning is left out."""
    picture = llm.Attachment(type="image/png", content=b"png")
    thought = llm.parts.ReasoningPart(text="hmm")
    with FakeSite(echo) as site:
        model = model_for(monkeypatch, site.url)
        with pytest.raises(llm.ModelError, match="only text"):
            model.prompt(messages=[llm.user("What is this?", picture)]).text()
        assert site.requests == []
        answered = llm.assistant("Hello", thought)
        model.prompt("And?", messages=[llm.user("Hi"), answered]).text()
    assert messages_of(site.requests[0]) == [("user", "Hi"), ("model", "Hello"), ("user", "And?")]


def test_an_error_does_not_show_a_password_in_a_url() -> None:
    """The error for a wrong URL does not contain the URL, which may contain a password."""
    with pytest.raises(ValueError, match="must not hold a user name") as caught:
        llm.get_model("aichatfree").prompt("Hi", base_url="http://me:hunter2@example.com")
    assert "hunter2" not in str(caught.value)


def test_the_package_does_not_need_llm() -> None:
    """Importing the package and creating a client imports neither ``llm`` nor pydantic."""
    done = run_python(
        """
        import sys, aichatfree
        aichatfree.Client()
        print({"llm", "pydantic"} & set(sys.modules))
        """
    )
    assert done.stdout == "set()\n", done.stderr
