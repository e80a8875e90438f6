"""What the package logs, in loggers below ``aichatfree``."""

from __future__ import annotations

import logging
import re

import pytest

from aichatfree import APIConnectionError, APIError, Timeout
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import SHORT, UNREACHABLE, ClientFor, run_python


def test_each_request_is_logged_on_one_line(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO has one line for each request: host, status, size, time, attempt and outcome."""
    caplog.set_level(logging.INFO, "aichatfree.requests")
    script: list[Answer | Raw] = [
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


def test_a_stream_that_is_closed_early_is_logged(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """INFO has a line for a stream that was closed before the end of the answer."""
    caplog.set_level(logging.INFO, "aichatfree.requests")
    with (
        FakeSite(Answer("Hel", end="stall")) as site,
        client_for(site.url).stream("one") as stream,
    ):
        next(stream)
    (record,) = caplog.records
    assert record.getMessage().endswith("attempt 1, given up")


def test_retries_are_logged(client_for: ClientFor, caplog: pytest.LogCaptureFixture) -> None:
    """INFO has a line for each retry: what failed, and how long the wait is."""
    caplog.set_level(logging.INFO, "aichatfree.retry")
    with FakeSite([Raw(end="reset"), "Hello"]) as site:
        client_for(site.url).generate("one")
    (record,) = caplog.records
    assert (
        record.getMessage()
        == "attempt 1 failed (connection broken: ECONNRESET); the next one in 0.0 s"
    )


def test_debug_shows_where_the_time_is_spent(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """DEBUG has lines for the time when a request is sent and when its response begins."""
    caplog.set_level(logging.DEBUG, "aichatfree.requests")
    with FakeSite("Hello") as site:
        client_for(site.url).generate("one")
    sent, begun, _ = [record.getMessage() for record in caplog.records]
    assert re.search(r"is sent \d+ bytes, attempt 1$", sent)
    assert re.search(r"answers 200 after \d\.\d{3} s$", begun)


def test_nothing_is_printed_without_logging_configuration() -> None:
    """A script that does not configure logging prints only its own output, even if retries fail."""
    script = """
        import sys
        from aichatfree import *
        client = Client(sys.argv[1], retry=RetryPolicy(initial_wait=0, jitter=0))
        print(client.generate('Hi'))
        list(client.batch(['a', 'b']))
    """
    with FakeSite([Raw(end="reset"), Answer("Hel", end="cut"), "Hello"]) as site:
        done = run_python(script, site.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=429, body=""), "429"),
        (Answer(status=503, body=""), "503"),
        (Answer("half", end="cut"), "connection broken in the answer: "),
        (Answer(end="stall"), f"silent for {SHORT} s"),
        (Answer(""), "empty answer"),
    ],
)
def test_a_retry_names_its_cause(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture, answer: Answer, reason: str
) -> None:
    """The line of a retry has the cause in words or as a status, not the name of a class."""
    caplog.set_level(logging.INFO, "aichatfree.retry")
    with FakeSite([answer, "Hello"]) as site:
        client_for(site.url).generate("one", timeout=Timeout(read=SHORT))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"attempt 1 failed ({reason}")


def test_a_refused_connection_is_named(
    client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    """If nothing listens at the address, the retries say that the connection was refused."""
    caplog.set_level(logging.INFO, "aichatfree.retry")
    with pytest.raises(APIConnectionError):
        client_for(UNREACHABLE).generate("one")
    assert caplog.records[0].getMessage().startswith("attempt 1 failed (connection refused)")
