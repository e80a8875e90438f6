"""The gateway starts where it may, and stops without a trace."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from aichatfree._protocol.messages import Message
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.signing import request_body
from aichatfree._protocol.sites import Site
from aichatfree.gateway import Gateway


class Slow:
    """Says a word, waits `seconds` and says another; stops when cancelled unless stubborn."""

    def __init__(self, seconds: float, *, stubborn: bool = False, word: str = "one") -> None:
        self.seconds = seconds
        self.stubborn = stubborn
        self.word = word
        self.started = threading.Event()
        self.closed = False

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        self.started.set()
        yield self.word
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and (self.stubborn or not cancelled.is_set()):
            time.sleep(0.01)
        yield " two"

    def close(self) -> None:
        self.closed = True


def question() -> bytes:
    return request_body(Site(), messages_from("Hi", None, Site().dialect), now=time.time())


def begin(gateway: Gateway) -> requests.Response:
    return requests.post(f"{gateway.url}/api/generate", question(), stream=True, timeout=10)


def leftovers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("aichatfree-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 1
    while leftovers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert leftovers() == []


# --- stopping ---------------------------------------------------------------------------------


def test_a_running_answer_may_finish() -> None:
    """Within the grace, an answer comes to its real end."""
    gateway = Gateway(Slow(0.5))
    with begin(gateway) as reply:
        gateway.close(grace=5)
        assert reply.content == b"one two"


@pytest.mark.parametrize(
    ("grace", "error"), [("x", TypeError), (True, TypeError), (-1, ValueError)]
)
def test_a_grace_that_is_no_time_is_refused(grace: Any, error: type[Exception]) -> None:
    """The gateway runs on, and can be closed properly afterwards."""
    with Gateway(Slow(0)) as gateway:
        with pytest.raises((TypeError, ValueError), match="grace"):
            gateway.close(grace=grace)
        with begin(gateway) as reply:
            assert reply.content == b"one two"


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_does_not_finish_breaks_visibly(stubborn: bool) -> None:
    """After the grace a client sees a broken connection, never a whole answer."""
    gateway = Gateway(Slow(1.5, stubborn=stubborn))
    with begin(gateway) as reply:
        started = time.monotonic()
        gateway.close(grace=0.2)
        assert 0.2 <= time.monotonic() - started < 3
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            _ = reply.content


def test_a_client_that_does_not_read_does_not_stop_the_stop() -> None:
    """A full pipe to a client delays the end by the grace only."""
    gateway = Gateway(Slow(0, word="x" * 20_000_000))
    with begin(gateway) as reply:
        started = time.monotonic()
        gateway.close(grace=0.2)
        assert time.monotonic() - started < 3
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            _ = reply.content


def test_no_question_is_taken_while_stopping() -> None:
    """Open connections get a 503, new ones are refused."""
    engine = Slow(1)
    gateway = Gateway(engine)
    with requests.Session() as session, begin(gateway) as reply:
        assert session.get(gateway.url, timeout=5).status_code == 200
        closing = threading.Thread(target=gateway.close)
        closing.start()
        time.sleep(0.3)
        refused = session.post(f"{gateway.url}/api/generate", question(), timeout=5)
        assert refused.status_code == 503
        with pytest.raises(requests.ConnectionError):
            begin(gateway)
        assert reply.content == b"one two"
        closing.join()


def test_an_idle_gateway_stops_at_once() -> None:
    """Idle connections do not use up the grace, and closing twice is closing."""
    gateway = Gateway(Slow(0))
    with requests.Session() as session:
        session.get(gateway.url, timeout=5)
        started = time.monotonic()
        gateway.close()
        gateway.close()
        assert time.monotonic() - started < 0.5


def test_an_engine_that_was_given_stays_open() -> None:
    """Whoever makes an engine closes it: two gateways may share one."""
    engine = Slow(0)
    with Gateway(engine), Gateway(engine):
        pass
    assert not engine.closed


def test_an_engine_in_the_middle_of_its_word_does_not_hold_the_interpreter() -> None:
    """A script that forgets to close the gateway ends all the same, and quietly."""
    script = (
        "import threading, time, requests, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_gateway_stop import *\n"
        "engine = Slow(60, stubborn=True)\n"
        "gateway = Gateway(engine)\n"
        "threading.Thread(target=begin, args=(gateway,), daemon=True).start()\n"
        "engine.started.wait(10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- starting ---------------------------------------------------------------------------------


def test_a_port_in_use_is_named() -> None:
    """The error says which address it was and what to do."""
    with Gateway(Slow(0)) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {port} .*choose another port"):
            Gateway(Slow(0), port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
@pytest.mark.parametrize("guard", [{}, {"secret": "s"}, {"password": "p"}])
def test_others_are_not_let_in_without_secret_and_password(
    host: str, guard: dict[str, str]
) -> None:
    """An address that others can reach needs both."""
    with pytest.raises(ValueError, match="others can reach"):
        Gateway(Slow(0), host=host, **guard)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),
    ],
)
def test_the_url_leads_to_the_gateway(host: str, shown: str) -> None:
    """Wherever it listens, its `url` answers."""
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 here")
    with Gateway(Slow(0), host=host, secret="s", password="p") as gateway:
        assert gateway.url.startswith(f"http://{shown}:")
        assert requests.get(gateway.url, timeout=5).status_code == 200


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": ""},
        {"password": []},
        {"password": ["a", ""]},
        {"max_streams": 0},
        {"max_body": 0},
        {"time_window": 0},
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, Any]) -> None:
    """An empty password or a limit of nothing is an error, not a surprise later."""
    with pytest.raises(ValueError, match="must"):
        Gateway(Slow(0), **wrong)


@pytest.mark.parametrize("wrong", [{"password": 5}, {"password": [5]}, {"secret": None}])
def test_settings_of_the_wrong_type_are_refused(wrong: dict[str, Any]) -> None:
    """A password or a secret that is not text is a `TypeError`."""
    with pytest.raises(TypeError):
        Gateway(Slow(0), **wrong)


def test_nothing_shows_the_secret_or_the_password() -> None:
    """The gateway's repr has its address only."""
    with Gateway(Slow(0), secret="topsecret", password="sesame") as gateway:
        assert repr(gateway) == f"<Gateway {gateway.url}>"


# --- the extra --------------------------------------------------------------------------------

HEAVY = {"waitress", "xllamacpp", "platformdirs"}


def test_importing_the_gateway_imports_nothing_heavy() -> None:
    """What the extra brings is imported when it is needed."""
    script = f"import sys, aichatfree.gateway; print(*({HEAVY} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b""


@pytest.mark.parametrize("module", ["waitress", "xllamacpp"])
def test_a_missing_extra_is_named(module: str) -> None:
    """Without it, the error says what to install."""
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from aichatfree.gateway import Gateway\n"
        "try: Gateway()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f'{module} is not installed: pip install "aichatfree[local]"'
