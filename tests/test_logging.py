"""What the package logs, under the name ``aichatfree``."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from aichatfree import APIError
from aichatfree.testing import Answer, FakeSite, Raw
from aichatfree.testing._fake_site import Item
from helpers import ClientFor


def test_each_request_is_one_line(client_for: ClientFor, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO: the host, status, bytes, chunks, seconds, attempt, and how it ended."""
    caplog.set_level(logging.INFO, "aichatfree.requests")
    script: list[Item] = [
        Answer("Hel", "lo"),
        Raw(end="reset"),
        Answer("Hel", end="cut"),
        Answer("Hi"),
    ]
    with FakeSite([*script, Answer(status=401, body="no")]) as site:
        client = client_for(site.url)
        client.generate("one")
        client.generate("two")
        with pytest.raises(APIError):
            client.generate("three")
        host = site.url.partition("//")[2]
    lines = [re.sub(r"\d+\.\d{3} s", "0 s", record.getMessage()) for record in caplog.records]
    assert lines == [
        f"{host} 200, 5 bytes in 2 chunks, 0 s, attempt 1, read to its end",
        f"{host} no reply, 0 bytes in 0 chunks, 0 s, attempt 1, APIConnectionError",
        f"{host} 200, 3 bytes in 1 chunks, 0 s, attempt 2, StreamInterruptedError",
        f"{host} 200, 2 bytes in 1 chunks, 0 s, attempt 3, read to its end",
        f"{host} 401, 2 bytes in 1 chunks, 0 s, attempt 1, read to its end",
    ]


def test_a_stream_that_is_left_is_one_line_too(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said that it was not read to its end."""
    caplog.set_level(logging.INFO, "aichatfree.requests")
    with (
        FakeSite(Answer("Hel", end="stall")) as site,
        client_for(site.url).stream("one") as stream,
    ):
        next(stream)
    (record,) = caplog.records
    assert record.getMessage().endswith("attempt 1, given up")


def test_retries_are_lines_of_their_own(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO: what failed, and when it is tried again."""
    caplog.set_level(logging.INFO, "aichatfree.retry")
    with FakeSite([Raw(end="reset"), "Hello"]) as site:
        client_for(site.url).generate("one")
    (record,) = caplog.records
    assert record.getMessage() == "attempt 1 failed (APIConnectionError); the next one in 0.0 s"


def test_debug_says_where_the_time_goes(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG: when a request leaves, and when its reply begins."""
    caplog.set_level(logging.DEBUG, "aichatfree.requests")
    with FakeSite("Hello") as site:
        client_for(site.url).generate("one")
    sent, begun, _ = [record.getMessage() for record in caplog.records]
    assert re.search(r"is sent \d+ bytes, attempt 1$", sent)
    assert re.search(r"answers 200 after \d\.\d{3} s$", begun)


def test_nothing_is_printed_unless_asked_for() -> None:
    """A script without any logging set up sees its own output only, failures included."""
    script = (
        "import sys; from aichatfree import *\n"
        "client = Client(sys.argv[1], retry=RetryPolicy(initial_wait=0, jitter=0))\n"
        "print(client.generate('Hi'))\n"
        "list(client.batch(['a', 'b']))\n"
    )
    with FakeSite([Raw(end="reset"), Answer("Hel", end="cut"), "Hello"]) as site:
        done = subprocess.run(
            [sys.executable, "-c", script, site.url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")
