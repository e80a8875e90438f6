"""Secret, password, signature and prompts are nowhere but on their way to the site."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from tblib import pickling_support

from aichatfree import APIError, Client, Timeout
from aichatfree.batch import make_shards
from aichatfree.testing import Answer, FakeSite, Raw, Request

SECRET = "s3cret-of-the-site"
PASSWORD = "passw0rd-of-mine"
PROMPT = "words-of-my-prompt"
# As Dask does: errors then travel with all their causes.
pickling_support.install()

HIDDEN = {"AICHATFREE_SECRET": SECRET, "AICHATFREE_PASSWORD": PASSWORD}

MISHAPS = [
    Answer("Hello"),
    Answer("Hel", end="cut"),
    Answer("Hel", "lo", end="tail"),
    Answer("Hel", end="stall"),
    Answer(),
    Answer(stream=["x" * 2000]),
    Answer("<html>", content_type="text/html"),
    Answer(status=307, body="", headers={"Location": "/elsewhere"}),
    *(Answer(status=status, body="No.") for status in (400, 401, 403, 404, 429, 500, 503)),
    Answer(status=429, body="", headers={"Retry-After": "3600"}),
    Answer(status=401, body=f"{PASSWORD} is not the password, nor is {SECRET} the secret."),
    Raw(end="reset"),
    Raw(b"nonsense\r\n"),
    Raw(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200),
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any library logs at any level, with its tracebacks."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.NOTSET)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def signatures(requests: list[Request]) -> set[str]:
    return {request.json["sign"] for request in requests if request.path == "/api/generate"}


def assert_nothing_hidden_in(text: str, requests: list[Request], *also: str) -> None:
    assert requests
    for words in {SECRET, PASSWORD, *signatures(requests), *also}:
        assert words not in text, text[max(0, text.find(words) - 600) : text.find(words) + 200]


def everything_about(error: BaseException) -> str:
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    return "\n".join([*shown, repr(pickle.dumps(error))])


@pytest.mark.parametrize("mishap", MISHAPS, ids=range(len(MISHAPS)))
def test_no_mishap_shows_them(mishap: Answer | Raw, log: io.StringIO) -> None:
    """Not in a log line, an error with its traceback and its pickle, or the repr of anything."""
    shown: list[object] = []
    with (
        FakeSite(mishap) as site,
        Client(
            site.url,
            secret=SECRET,
            password=PASSWORD,
            timeout=Timeout(read=0.3),
            retry=None,
            max_reply_bytes=1000,
        ) as client,
    ):
        chat, stream = client.chat(system=PROMPT), client.stream(PROMPT)
        shown += [client, vars(client), vars(client._requester), chat, stream]
        for ask in (client.generate, chat.send, lambda prompt: stream.read()):
            try:
                shown.append(ask(PROMPT))
            except APIError as error:
                shown.append(everything_about(error))
        shown += [str(client.check()), vars(stream)]
        if not isinstance(mishap, Answer) or mishap.status != 429:
            with client.batch([PROMPT], progress=False) as batch, contextlib.suppress(Exception):
                shown += [batch, *batch, batch.summary]
    assert_nothing_hidden_in(log.getvalue() + "".join(map(repr, shown)), site.requests, PROMPT)


def test_a_shard_has_the_prompts_only() -> None:
    """What travels to other machines has neither secret nor password, whole or in parts."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in HIDDEN.items():
            environment.setenv(name, value)
        client = Client("http://127.0.0.1:1")
        (shard,) = make_shards(client, [PROMPT])
    assert SECRET.encode() not in shard
    assert PASSWORD.encode() not in shard


def test_no_file_but_the_output_has_them(tmp_path: Path) -> None:
    """A run of the command line leaves the prompts nowhere, and the secrets not even there."""
    folders = {name: tmp_path / name for name in ("home", "tmp", "cache", "work")}
    for folder in folders.values():
        folder.mkdir()
    environment = {
        **os.environ,
        **HIDDEN,
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["tmp"]),
        "XDG_CACHE_HOME": str(folders["cache"]),
        "XDG_CONFIG_HOME": str(folders["cache"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    commands = [
        ["ask", "--system", "short"],
        ["chat"],
        ["batch", "-", "-o", "answers.jsonl", "--system", PROMPT],
        ["batch", "-"],
        ["check"],
    ]
    script = [Answer("Hello"), Answer(status=400, body="No."), Answer("Hello", end="cut")]
    with FakeSite([*script, Answer("Hello")]) as site:
        environment["AICHATFREE_BASE_URL"] = site.url
        printed = ""
        for command in commands:
            done = subprocess.run(
                [sys.executable, "-m", "aichatfree", *command],
                input=f"{PROMPT}\n",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                cwd=folders["work"],
                env=environment,
            )
            printed += done.stdout + done.stderr
    assert_nothing_hidden_in(printed, site.requests)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    contents = "".join(path.read_text() for path in files)
    assert_nothing_hidden_in(contents, site.requests, PROMPT)


def test_the_process_title_has_them_not() -> None:
    """They come from the environment and standard input: nobody sees them with `ps`."""
    with (
        FakeSite(Answer("Hello", end="stall")) as site,
        subprocess.Popen(
            [sys.executable, "-m", "aichatfree", "ask"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **HIDDEN, "AICHATFREE_BASE_URL": site.url},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(PROMPT.encode())
        process.stdin.close()
        assert process.stdout.read(5) == b"Hello"
        ps = ["ps", "-o", "args=", "-p", str(process.pid)]
        title = subprocess.run(ps, capture_output=True, check=True, text=True).stdout
        process.kill()
    assert "aichatfree ask" in title
    assert_nothing_hidden_in(title, site.requests, PROMPT)
