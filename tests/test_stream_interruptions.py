"""A stream that Ctrl-C interrupts."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from aichatfree import (
    Stream,
    StreamInterruptedError,
)
from aichatfree.testing import Answer, FakeSite
from helpers import HANG, SHORT, ClientFor


def test_an_interrupted_close_does_not_make_an_answer_complete(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream is incomplete after its close() has been interrupted by Ctrl-C."""
    with FakeSite([Answer("half", "rest", gap=HANG)]) as site:
        stream = client_for(site.url).stream("Hi")
        next(stream)

        def interrupt(_: object) -> str:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Stream, "text", property(interrupt))
            with pytest.raises(KeyboardInterrupt):
                stream.close()
        assert not stream.complete
        with pytest.raises(StreamInterruptedError):
            stream.read()


def test_reading_after_ctrl_c_raises(
    client_for: ClientFor,
) -> None:
    """After Ctrl-C in a read, reading again raises, and what has arrived is kept."""
    with FakeSite(Answer("one", "two", gap=HANG)) as site:
        stream = client_for(site.url).stream("Hi")
        assert next(stream) == "one"
        timer = threading.Timer(SHORT, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        timer.join()
        with pytest.raises(StreamInterruptedError, match="interrupted"):
            stream.read()
        assert (stream.text, stream.complete) == ("one", False)
