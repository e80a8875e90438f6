"""The progress bar of a batch, and what else is written beside it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from aichatfree.testing import FakeSite
from helpers import ClientFor, echo


def test_the_log_at_the_start_comes_before_the_bar(
    client_for: ClientFor, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The line about the rate limit of each shard is logged before the bar is drawn."""
    drawn_before: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            drawn_before.append(capsys.readouterr().err)

    caplog.set_level(logging.INFO, "aichatfree.batch")
    listener = Listener()
    with FakeSite(echo) as site, ThreadPoolExecutor(1) as executor:
        client = client_for(site.url, max_requests_per_minute=6000)
        logging.getLogger("aichatfree.batch").addHandler(listener)
        try:
            client.batch(["one"], executor=executor, progress=True).run()
        finally:
            logging.getLogger("aichatfree.batch").removeHandler(listener)
    assert drawn_before == [""]
    assert "1/1" in capsys.readouterr().err


def test_the_bar_is_cleared_for_each_result(
    client_for: ClientFor, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the caller gets a result, the current line of the terminal is empty."""
    with FakeSite(echo) as site:
        for _ in client_for(site.url).batch(["one", "two"], progress=True):
            drawn = capsys.readouterr().err
            assert "prompts" in drawn or not drawn
            assert drawn.rpartition("\r")[2] == ""
