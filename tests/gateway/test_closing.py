"""`Gateway.close`: running answers may complete for a while, then everything ends."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from aichatfree.gateway import Gateway
from helpers import (
    AT_ONCE,
    LONG,
    SHORT,
    Echo,
    forks_beside_threads,
    run_python,
    signed_body,
    threads_named,
    wait_until,
)

from .connections import post
from .engines import SlowEngine

GRACE = SHORT
"""Seconds that answers get in these tests, all of which are too slow for that."""

TESTS = str(Path(__file__).parents[1])


def ask(gateway: Gateway) -> requests.Response:
    """The response to a question, of which only the beginning has been read."""
    return post(gateway, signed_body(), stream=True)


def assert_cut_off(response: requests.Response) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _ = response.content


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """After each test all threads of the gateway and of its engines have ended."""
    yield
    wait_until(lambda: not threads_named("aichatfree-"))


def test_connections_that_arrive_at_the_last_moment_are_closed() -> None:
    """No socket is left open, although clients connect while the gateway stops listening."""
    gateway = Gateway(Echo())
    address = ("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    clients: list[socket.socket] = []

    def connect_until_refused() -> None:
        with suppress(OSError):
            while True:
                clients.append(socket.create_connection(address, LONG))

    gc.collect()  # what other tests left is not this gateway's
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        flood = [threading.Thread(target=connect_until_refused) for _ in range(4)]
        for thread in flood:
            thread.start()
        wait_until(lambda: len(clients) > 100)
        gateway.close()
        for thread in flood:
            thread.join(LONG)
        for client in clients:
            client.close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_running_answer_may_complete() -> None:
    """An answer that needs less time than the grace is complete."""
    gateway = Gateway(SlowEngine(2 * SHORT))
    with ask(gateway) as response:
        gateway.close(grace=LONG)
        assert response.content == b"one two"


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_answer_that_does_not_complete_is_cut_off(stubborn: bool) -> None:
    """After the grace the client's connection breaks, so that it does not take the answer for
    complete, and `close` returns even if the engine ignores its cancellation.
    """
    gateway = Gateway(SlowEngine(1.5, stubborn=stubborn))
    with ask(gateway) as response:
        started = time.monotonic()
        gateway.close(GRACE)
        assert GRACE <= time.monotonic() - started < 2 * AT_ONCE
        assert_cut_off(response)


def test_a_client_that_does_not_read_delays_the_close_by_the_grace_only() -> None:
    """If a client does not read, `close` drops what it has not sent after the grace."""
    gateway = Gateway(SlowEngine(0, first="x" * 20_000_000))
    with ask(gateway) as response:
        started = time.monotonic()
        gateway.close(GRACE)
        assert time.monotonic() - started < GRACE + AT_ONCE
        assert_cut_off(response)


def test_a_closing_gateway_refuses_questions() -> None:
    """While running answers complete, open connections get a 503 and new ones are refused."""
    engine = SlowEngine(5 * SHORT)
    gateway = Gateway(engine)
    with requests.Session() as session, ask(gateway) as response:
        assert session.get(gateway.url, timeout=5).status_code == 200
        closing = threading.Thread(target=gateway.close)
        closing.start()
        time.sleep(SHORT)
        refused = session.post(f"{gateway.url}/api/generate", signed_body(), timeout=5)
        assert refused.status_code == 503
        with pytest.raises(requests.ConnectionError):
            ask(gateway)
        assert response.content == b"one two"
        closing.join()


def test_an_idle_gateway_closes_at_once() -> None:
    """With only idle connections, `close` does not wait for the grace."""
    gateway = Gateway(SlowEngine(0))
    with requests.Session() as session:
        session.get(gateway.url, timeout=5)
        started = time.monotonic()
        gateway.close(grace=LONG)
        assert time.monotonic() - started < AT_ONCE


def test_a_gateway_can_be_closed_twice() -> None:
    """The second `close` of a gateway does nothing."""
    gateway = Gateway(SlowEngine(0))
    gateway.close()
    gateway.close()
    assert "closed" in repr(gateway)


def close_with_ctrl_c(gateway: Gateway) -> float:
    """Press Ctrl-C while `close` waits for the grace to end; the seconds it takes from then on.

    Not before it waits: the signal would interrupt the test, or be lost in a destructor.
    """
    pressed: list[float] = []
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        wait_until(lambda: "stopping" in repr(gateway))
        time.sleep(SHORT)
        if "stopping" in repr(gateway):
            pressed.append(time.monotonic())
            signal.pthread_kill(main, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        gateway.close(grace=LONG)
    closed = time.monotonic()
    presser.join()
    return closed - pressed[0]


def test_ctrl_c_during_the_grace_cuts_off_what_still_runs() -> None:
    """If Ctrl-C interrupts `close`, running answers are cut off at once, the gateway is closed, and
    the interrupt is raised.
    """
    gateway = Gateway(SlowEngine(LONG))
    with ask(gateway) as response:
        assert close_with_ctrl_c(gateway) < AT_ONCE
        assert_cut_off(response)
    assert "closed" in repr(gateway)


def test_a_close_that_ctrl_c_interrupts_waits_for_the_servers_thread() -> None:
    """When the interrupt is raised, the thread of the server has ended, whose engine ended long ago
    but whose client does not read.
    """
    gateway = Gateway(SlowEngine(0, first="x" * 20_000_000))
    with ask(gateway):
        close_with_ctrl_c(gateway)
        assert not threads_named("aichatfree-gateway")


def test_a_server_that_is_blocked_does_not_block_its_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If something blocks the thread of the server, such as a handler of the log, `close` returns
    after the grace and the time for stopping, and logs a warning.
    """
    monkeypatch.setattr("aichatfree.gateway._server.STOP_TIMEOUT", SHORT)
    monkeypatch.setattr("aichatfree.gateway._server.STOP_MARGIN", SHORT)
    release, blocked = threading.Event(), threading.Event()

    def block(record: logging.LogRecord) -> bool:
        blocked.set()
        return release.wait(LONG)

    logger = logging.getLogger("aichatfree.gateway._access_log")
    caplog.set_level(logging.INFO, logger.name)
    logger.addFilter(block)
    gateway = Gateway(Echo())
    try:
        ask(gateway).close()
        assert blocked.wait(LONG)
        started = time.monotonic()
        gateway.close(GRACE)
        assert time.monotonic() - started < GRACE + 2 * SHORT + AT_ONCE
        assert "the server's thread did not end in time" in caplog.messages
    finally:
        release.set()
        logger.removeFilter(block)


@pytest.mark.parametrize(
    ("grace", "error"), [("x", TypeError), (True, TypeError), (-1, ValueError)]
)
def test_after_a_wrong_grace_the_gateway_keeps_serving(grace: Any, error: type[Exception]) -> None:
    """A `grace` that is not a number of seconds is an error, and nothing is closed."""
    with Gateway(SlowEngine(0)) as gateway:
        with pytest.raises(error, match="grace must"):
            gateway.close(grace=grace)
        with ask(gateway) as response:
            assert response.content == b"one two"


def test_the_gateway_does_not_close_an_engine_that_it_was_given() -> None:
    """Two gateways can share an engine, so that closing one leaves the engine open."""
    engine = SlowEngine(0)
    with Gateway(engine), Gateway(engine):
        pass
    assert not engine.closed


def test_an_open_gateway_does_not_keep_the_interpreter_alive() -> None:
    """A script that does not close its gateway ends without an error while an engine is busy."""
    done = run_python(
        """
        import sys, threading
        sys.path.insert(0, sys.argv[1])
        from aichatfree.gateway import Gateway
        from gateway.connections import post
        from gateway.engines import SlowEngine
        from helpers import signed_body
        engine = SlowEngine(60, stubborn=True)
        gateway = Gateway(engine)
        threading.Thread(target=post, args=(gateway, signed_body()), daemon=True).start()
        assert engine.started.wait(10)
        """,
        TESTS,
    )
    assert (done.returncode, done.stderr) == (0, "")


@forks_beside_threads
def test_clients_notice_the_end_while_a_forked_child_lives() -> None:
    """A child of a fork keeps neither the port open nor connections that the gateway cuts off."""
    with Gateway(SlowEngine(LONG)) as gateway:
        response = ask(gateway)
        child = os.fork()
        if child == 0:
            try:
                signal.pause()
            finally:
                os._exit(1)
        try:
            gateway.close(grace=0)
            started = time.monotonic()
            assert_cut_off(response)
            with pytest.raises(requests.ConnectionError):
                requests.get(gateway.url, timeout=LONG)
            assert time.monotonic() - started < AT_ONCE
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@forks_beside_threads
def test_a_gateway_serves_on_after_a_fork() -> None:
    """When a child of a fork has ended, and closed its copy of the gateway, the parent serves."""
    with Gateway(Echo()) as gateway, requests.Session() as session:
        body = signed_body("Hi")
        assert session.post(f"{gateway.url}/api/generate", body, timeout=LONG).text == "Hi"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                gateway.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert session.post(f"{gateway.url}/api/generate", body, timeout=LONG).text == "Hi"
