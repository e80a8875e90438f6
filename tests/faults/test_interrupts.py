"""Calls interrupted by the close of their client, by a signal or by the interpreter's exit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aichatfree import AIChatFreeError, Client, StreamInterruptedError
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.stream import Stream
from aichatfree.testing import Answer, FakeSite
from helpers import AT_ONCE, HANG, LONG, SHORT, run_python


def test_64_threads_survive_the_close_of_their_client() -> None:
    """When a client is closed, each call in flight ends at once, complete or with our error."""
    with FakeSite(lambda request: Answer("echo ", request.text, gap=0.05)) as site:
        client = Client(site.url)
        started = threading.Barrier(65, timeout=LONG)

        def ask_until_closed(number: int) -> None:
            started.wait()
            for repetition in range(1000):
                question = f"{number}-{repetition}"
                assert client.generate(question).text == f"echo {question}"

        with ThreadPoolExecutor(64) as threads:
            calls = [threads.submit(ask_until_closed, number) for number in range(64)]
            started.wait()
            time.sleep(SHORT)
            client.close()
            closed = time.monotonic()
            errors = [call.exception(LONG) for call in calls]
        assert time.monotonic() - closed < AT_ONCE
    assert {isinstance(error, AIChatFreeError) for error in errors} == {True}
    assert {str(error) for error in errors} <= {
        "The answer was cancelled before its end.",
        "This client is closed: make a new one.",
    }


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param("pass", id="not read"),
        pytest.param("next(stream)", id="half read"),
        pytest.param("next(stream); client.close()", id="closed"),
        pytest.param(
            f"threading.Thread(target=stream.read, daemon=True).start(); time.sleep({SHORT})",
            id="read by a daemon thread",
        ),
    ],
)
def test_the_interpreter_exits_with_a_stream_open(begin: str) -> None:
    """A script may end with a stream open: it exits at once with code 0 and prints nothing."""
    script = f"""
        import sys, threading, time
        from aichatfree import Client
        client = Client(sys.argv[1])
        client.generate("quick")
        stream = client.stream("slow")
        {begin}
        print(time.monotonic())
    """
    slow = Answer("one", "two", gap=HANG)
    with FakeSite(lambda request: slow if request.text == "slow" else "Hello") as site:
        done = run_python(script, site.url)
        exited = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    assert exited - float(done.stdout) < AT_ONCE


def test_ctrl_c_at_any_moment_leaves_a_client_that_works() -> None:
    """After an interruption at each of 300 random moments, the client's next call succeeds."""
    # About one in 300 interruptions falls into the finalizer of an earlier call's file object,
    # where the interpreter ignores every exception: 290 have to arrive.
    script = """
        import random, signal, sys, threading, time
        from aichatfree import Client, Timeout

        def interrupt(number, frame):
            global raised
            raised = True
            raise KeyboardInterrupt

        def ask_until_interrupted():
            # In a function, since the `try` of the caller does not cover a loop's own jump.
            while not raised:
                client.generate("again")

        signal.signal(signal.SIGALRM, interrupt)
        client = Client(sys.argv[1], timeout=Timeout(total=20))
        chance = random.Random(1)
        interrupted = 0
        for number in range(300):
            raised = False
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.012))
                ask_until_interrupted()
            except KeyboardInterrupt:
                interrupted += 1
            reply = client.generate(str(number))
            assert reply.text == f"echo {number}", reply
        client.close()
        time.sleep(0.2)
        print(interrupted, threading.active_count())
    """
    with FakeSite(lambda request: Answer("echo ", request.text, gap=0.002)) as site:
        done = run_python(script, site.url)
    assert done.returncode == 0, done.stderr
    interrupted, threads = map(int, done.stdout.split())
    assert interrupted >= 290
    assert threads == 1


def test_a_client_may_be_closed_in_a_signal_handler() -> None:
    """If a signal handler closes the client at any moment of a call, the call ends at once."""
    script = """
        import faulthandler, random, signal, sys
        from aichatfree import AIChatFreeError, Client

        faulthandler.dump_traceback_later(25, exit=True)
        signal.signal(signal.SIGALRM, lambda number, frame: client.close())
        chance = random.Random(1)
        for _ in range(150):
            client = Client(sys.argv[1], retry=None)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.004))
            try:
                client.generate("Hi")
            except AIChatFreeError:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            client.close()
    """
    with FakeSite(Answer("Hel", "lo")) as site:
        done = run_python(script, site.url)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_read_that_is_interrupted_twice_does_not_make_an_answer_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream is incomplete after Ctrl-C, even if another one came while the first was handled."""
    with FakeSite([Answer("half", "rest")]) as site:
        stream = Client(site.url).stream("Hi")
        next(stream)

        def interrupt(*_: object) -> str:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ReplyDecoder, "feed", interrupt)
            patch.setattr(Stream, "_fail", interrupt)
            with pytest.raises(KeyboardInterrupt):
                next(stream)
        with pytest.raises(StreamInterruptedError):
            stream.read()
        assert not stream.complete
