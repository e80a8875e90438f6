"""Secrets, passwords, signatures and prompts are sent to the site and appear nowhere else."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from tblib import pickling_support

from aichatfree import APIError, Client, Timeout
from aichatfree.batch import make_shards
from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import COMMAND, LONG, SHORT, UNREACHABLE

SECRET = "s3cret-of-the-site"
PASSWORD = "passw0rd-of-mine"
PROMPT = "words-of-my-prompt"
# As Dask does: errors are then pickled with all their causes.
pickling_support.install()

CREDENTIALS = {"AICHATFREE_SECRET": SECRET, "AICHATFREE_PASSWORD": PASSWORD}

ANSWERS = [
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
    Answer(status=401, body=f"{PASSWORD} is not the password, and {SECRET} is not the secret."),
    Raw(end="reset"),
    Raw(b"nonsense\r\n"),
    Raw(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200),
]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What all libraries log at all levels, with tracebacks."""
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


def assert_redacted(text: str, requests: list[Request], *also: str) -> None:
    assert requests
    for words in {SECRET, PASSWORD, *signatures(requests), *also}:
        assert words not in text, text[max(0, text.find(words) - 600) : text.find(words) + 200]


def everything_about(error: BaseException) -> str:
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    return "\n".join([*shown, repr(pickle.dumps(error))])


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_logs_errors_and_reprs_contain_no_secret(answer: Answer | Raw, log: io.StringIO) -> None:
    """No log line, error, traceback, pickled error or repr has credentials or a prompt."""
    shown: list[object] = []
    with (
        FakeSite(answer) as site,
        Client(
            site.url,
            secret=SECRET,
            password=PASSWORD,
            timeout=Timeout(read=SHORT),
            retry=None,
            max_reply_bytes=1000,
        ) as client,
    ):
        chat, stream = client.chat(system=PROMPT), client.stream(PROMPT)
        shown += [client, vars(client), chat, stream]
        for ask in (client.generate, chat.send, lambda prompt: stream.read()):
            try:
                shown.append(ask(PROMPT))
            except APIError as error:
                shown.append(everything_about(error))
        shown += [str(client.check()), vars(stream)]
        if not isinstance(answer, Answer) or answer.status != 429:
            with client.batch([PROMPT], progress=False) as batch, contextlib.suppress(Exception):
                shown += [batch, *batch, batch.summary]
    assert_redacted(log.getvalue() + "".join(map(repr, shown)), site.requests, PROMPT)


def test_a_shard_contains_no_credentials() -> None:
    """A shard, which is sent to other machines, contains neither the secret nor the password."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        client = Client(UNREACHABLE)
        (shard,) = make_shards(client, [PROMPT])
    assert SECRET.encode() not in shard
    assert PASSWORD.encode() not in shard


def test_the_command_line_writes_no_secret(tmp_path: Path) -> None:
    """The command line prints no credentials, and writes neither them nor a prompt to a file."""
    directories = {name: tmp_path / name for name in ("home", "tmp", "cache", "work")}
    for directory in directories.values():
        directory.mkdir()
    environment = {
        **os.environ,
        **CREDENTIALS,
        "HOME": str(directories["home"]),
        "TMPDIR": str(directories["tmp"]),
        "XDG_CACHE_HOME": str(directories["cache"]),
        "XDG_CONFIG_HOME": str(directories["cache"]),
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
                [*COMMAND, *command],
                input=f"{PROMPT}\n",
                capture_output=True,
                text=True,
                timeout=LONG,
                check=False,
                cwd=directories["work"],
                env=environment,
            )
            printed += done.stdout + done.stderr
    assert_redacted(printed, site.requests)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    contents = "".join(path.read_text() for path in files)
    assert_redacted(contents, site.requests, PROMPT)


def test_the_list_of_processes_shows_no_secret() -> None:
    """Credentials from the environment and a prompt from standard input are not shown by `ps`."""
    with (
        FakeSite(Answer("Hello", end="stall")) as site,
        subprocess.Popen(
            [*COMMAND, "ask"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **CREDENTIALS, "AICHATFREE_BASE_URL": site.url},
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
    assert_redacted(title, site.requests, PROMPT)
