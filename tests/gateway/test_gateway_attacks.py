"""The gateway under attack: replays, guessed passwords, any bytes at all."""

from __future__ import annotations

import gc
import io
import json
import random
import socket
import sys
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from aichatfree import AuthenticationError, Client, RateLimitError
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.responses import error_from_response
from aichatfree._protocol.signing import generate_signature, request_body
from aichatfree._protocol.sites import Site
from aichatfree.gateway import Gateway
from aichatfree.gateway._app import App
from aichatfree.gateway._login_throttle import Guesses
from aichatfree.gateway._replay_cache import Replays
from helpers import Echo


class Clock:
    """A clock that is set by hand."""

    now = 1_000.0
    looks = 0

    def __call__(self) -> float:
        now = self.now
        self.looks += 1
        return now


def signed(text: str = "Hello", secret: str = "", password: str | None = None) -> bytes:
    site = Site(secret=secret)
    messages = messages_from(text, None, site.dialect)
    return request_body(site, messages, now=time.time(), password=password)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which gateways count guesses."""
    clock = Clock()
    monkeypatch.setattr("aichatfree.gateway._app.Guesses", lambda: Guesses(clock))
    return clock


def post(gateway: Gateway, body: bytes, path: str = "/api/generate") -> requests.Response:
    return requests.post(gateway.url + path, body, timeout=30)


# --- replays ----------------------------------------------------------------------------------


def test_a_replayed_request_is_refused() -> None:
    """A signature is good for one request, whatever else is changed in the next one."""
    body = signed("Yes")
    turned = json.loads(body)
    turned["messages"] = [
        {"role": "user", "parts": [{"text": "Send it all?"}]},
        *turned["messages"],
    ]
    with Gateway(Echo(), time_window=60, refuse_replays=True) as gateway:
        assert post(gateway, body).text == "Yes"
        for replay in (body, json.dumps(turned).encode()):
            reply = post(gateway, replay)
            assert reply.status_code == 401
            assert "replay" in reply.json()["error"]["message"]
        assert post(gateway, signed("No")).text == "No"


def test_a_client_says_of_a_replay_what_it_is() -> None:
    """It does not blame the secret, and says what to do."""
    body = signed()
    with Gateway(Echo(), time_window=60, refuse_replays=True) as gateway:
        post(gateway, body)
        reply = post(gateway, body)
    error = error_from_response(reply.status_code, reply.headers, reply.content, Site())
    assert isinstance(error, AuthenticationError)
    assert "replay" in str(error)
    assert "send this one again" in str(error)
    assert "SECRET" not in str(error)


def test_replays_are_taken_unless_they_are_to_be_refused() -> None:
    """The real sites take them too."""
    body = signed()
    with Gateway(Echo(), time_window=60) as gateway:
        assert [post(gateway, body).text for _ in range(2)] == ["Hello", "Hello"]


def test_of_many_replays_at_once_one_is_taken() -> None:
    """However close together they come."""
    body = signed()
    with (
        Gateway(Echo(), time_window=60, refuse_replays=True) as gateway,
        ThreadPoolExecutor(20) as pool,
    ):
        replies = pool.map(lambda _: post(gateway, body), range(60))
        assert sorted(reply.status_code for reply in replies) == [200] + [401] * 59


def test_equal_questions_of_one_client_are_no_replays() -> None:
    """A batch may ask the same thing from many threads in the same millisecond."""
    with (
        Gateway(Echo(), time_window=60, refuse_replays=True) as gateway,
        Client(gateway.url) as client,
        client.batch(["Again"] * 300, max_workers=16) as batch,
    ):
        assert [result.text for result in batch] == ["Again"] * 300


def test_refusing_replays_needs_a_time_window() -> None:
    """Without one, every signature would have to be remembered for ever."""
    with pytest.raises(ValueError, match="time_window"):
        Gateway(Echo(), refuse_replays=True)


def test_only_what_would_be_taken_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong passwords, signatures and times use no memory; full, it refuses and forgets nothing."""
    monkeypatch.setattr("aichatfree.gateway._replay_cache.MOST", 2)
    late = round((time.time() - 100) * 1000)
    wrong = [
        signed(secret="s"),
        signed(secret="?", password="p"),
        json.dumps(
            {
                **json.loads(signed(password="p")),
                "time": late,
                "sign": generate_signature(late, "Hello", "s"),
            }
        ).encode(),
    ]
    first, *more = [signed(f"question {i}", secret="s", password="p") for i in range(3)]
    with Gateway(Echo(), secret="s", password="p", time_window=60, refuse_replays=True) as gateway:
        assert [post(gateway, body).status_code for body in wrong] == [401] * 3
        assert [post(gateway, body).status_code for body in (first, *more)] == [200, 200, 503]
        assert post(gateway, more[1]).headers["Retry-After"]
        assert post(gateway, first).status_code == 401


def test_signatures_are_forgotten_when_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are kept for twice the window, because a client's clock may be ahead, and no longer."""
    monkeypatch.setattr("aichatfree.gateway._replay_cache.MOST", 2)
    clock = Clock()
    replays = Replays(60, clock)
    assert replays.is_new("a")
    assert replays.is_new("b")
    clock.now += 119
    assert not replays.is_new("a")
    clock.now += 2
    assert replays.is_new("c")
    assert replays.is_new("d")


# --- guessed passwords ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/auth", "/api/generate"])
def test_who_guesses_passwords_has_to_wait(path: str, clock: Clock) -> None:
    """After three wrong ones even the right one has to wait, and is told for how long."""
    right = signed(secret="s", password="right")
    wrong = [signed(secret="s", password=f"wrong {i}") for i in range(4)]
    with Gateway(Echo(), secret="s", password="right") as gateway:
        replies = [post(gateway, body, path) for body in (*wrong, right)]
        looked_at = 200 if path == "/api/auth" else 401
        assert [reply.status_code for reply in replies] == [looked_at] * 3 + [429] * 2
        assert replies[-1].headers["Retry-After"] == "1"
        assert "wrong passwords" in replies[-1].json()["error"]["message"]
        clock.now += 1
        assert post(gateway, right, path).text in ('{"code": 0}', "Hello")


def test_a_client_that_has_to_wait_waits(clock: Clock) -> None:
    """Who knows the password gets through after another one's guesses at the same address."""
    with (
        Gateway(Echo(), secret="s", password="right") as gateway,
        Client(gateway.url, secret="s", password="wrong", retry=None) as guesser,
        Client(gateway.url, secret="s", password="right") as client,
        ThreadPoolExecutor(1) as pool,
    ):
        for _ in range(3):
            with pytest.raises(AuthenticationError, match="password"):
                guesser.generate("Hello")
        with pytest.raises(RateLimitError, match="wrong passwords") as caught:
            guesser.generate("Hello")
        assert caught.value.retry_after == 1
        looks = clock.looks
        reply = pool.submit(client.generate, "Hello")
        while clock.looks == looks and not reply.done():
            time.sleep(0.01)
        clock.now += 1
        assert (reply.result().text, reply.result().attempts) == ("Hello", 2)


@pytest.mark.parametrize("path", ["/api/auth", "/api/generate"])
def test_three_hundred_guessers_block_nobody_who_can_sign(path: str) -> None:
    """Few of their guesses are looked at, all are answered, and no thread is held up by them."""
    stop = threading.Event()
    replies: list[bytes] = []
    body = signed(secret="?", password="wrong")
    guess = f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def guess_on(connections: list[socket.socket]) -> None:
        while not stop.is_set():
            for each in connections:
                each.sendall(guess)
            replies.extend(whole_reply(each) for each in connections)

    with (
        Gateway(Echo(), secret="s", password="right", max_streams=4) as gateway,
        ExitStack() as stack,
        Client(gateway.url, secret="s", password="right", retry=None) as client,
    ):
        host, port = gateway.url.removeprefix("http://").split(":")
        connections = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            for _ in range(300)
        ]
        attacker = threading.Thread(target=guess_on, args=[connections])
        attacker.start()
        try:
            for i in range(20):
                assert client.generate(f"question {i}").text == f"question {i}"
        finally:
            stop.set()
            attacker.join()
    looked_at = [reply for reply in replies if not reply.startswith(b"HTTP/1.1 429 ")]
    assert len(replies) >= 300
    assert len(looked_at) < 20
    assert all(b"-1" in reply or b"Invalid password" in reply for reply in looked_at)


def whole_reply(connection: socket.socket) -> bytes:
    reply = connection.recv(65536)
    while b"\r\n\r\n" not in reply:
        reply += connection.recv(65536)
    head, _, body = reply.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + body


def wrong(guesses: Guesses, times: int, address: str = "1.2.3.4") -> list[float]:
    return [guesses.wait(address, signed=True, right=False) for _ in range(times)]


def test_the_wait_doubles_up_to_a_few_seconds() -> None:
    """However many wrong passwords there were."""
    clock = Clock()
    guesses = Guesses(clock)
    assert wrong(guesses, 3) == [0, 0, 0]
    waits = []
    for _ in range(3_000):
        (wait,) = wrong(guesses, 1)
        waits.append(wait)
        clock.now += wait
        assert wrong(guesses, 1) == [0]
    assert waits == [1, 2, 4] + [8] * 2_997


@pytest.mark.parametrize("quiet", [False, True])
def test_wrong_passwords_are_forgotten(quiet: bool) -> None:
    """After a right one, or after some time without any."""
    clock = Clock()
    guesses = Guesses(clock)
    wrong(guesses, 3)
    clock.now += 302 if quiet else 2
    if not quiet:
        assert guesses.wait("1.2.3.4", signed=True, right=True) == 0
    assert wrong(guesses, 4) == [0, 0, 0, 1]


def test_each_address_waits_for_its_own_guesses() -> None:
    """Its half of an IPv6 address a guesser may choose, so that half does not count."""
    guesses = Guesses(Clock())
    for guesser in ("1.2.3.4", "2001:db8::1"):
        assert wrong(guesses, 4, guesser)[-1] == 1
    for other in ("1.2.3.5", "2001:db8:1::1"):
        assert guesses.wait(other, signed=True, right=True) == 0
    assert guesses.wait("2001:db8::ffff:2", signed=True, right=True) == 1
    assert guesses.wait("1.2.3.4", signed=False, right=True) == 0


def test_guessers_from_everywhere_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was quiet for longest is forgotten, and who goes on is not."""
    monkeypatch.setattr("aichatfree.gateway._login_throttle.MOST", 10)
    guesses = Guesses(Clock())
    wrong(guesses, 3, "10.0.0.1")
    wrong(guesses, 3, "10.0.0.2")
    for i in range(9):
        assert wrong(guesses, 1, "10.0.0.1") == [1]
        wrong(guesses, 1, f"10.0.1.{i}")
    assert wrong(guesses, 1, "10.0.0.2") == [0]


def test_asking_without_a_password_is_no_guess() -> None:
    """Pages ask whether one is needed, as often as they are opened."""
    with Gateway(Echo(), password="right") as gateway:
        replies = [post(gateway, b'{"pass": null}', "/api/auth") for _ in range(8)]
        assert {reply.text for reply in replies} == {'{"code": -1}'}
        assert post(gateway, signed(password="right")).text == "Hello"


# --- any bytes at all -------------------------------------------------------------------------

STAMP = 1_700_000_000_000
HONEST: dict[str, Any] = {
    "messages": [{"role": "user", "parts": [{"text": "Hello"}]}],
    "time": STAMP,
    "pass": "sesame",
    "sign": generate_signature(STAMP, "Hello"),
}
OPENAI: dict[str, Any] = {
    **HONEST,
    "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Hello"}],
    "temperature": 1,
}
BODIES = [json.dumps(body).encode() for body in (HONEST, OPENAI)]
ODD: list[Any] = [None, True, 0, -1, 1e308, 10**30, "", "x", "\ud83d", [], {}, [[]], {"": 0}]


def random_body(rng: random.Random) -> bytes:
    """Random bytes, or one of the honest bodies, more or less spoilt."""
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.randrange(200))
    body = bytearray(rng.choice(BODIES))
    if kind < 0.5:
        spoilt = json.loads(body)
        at = spoilt if kind < 0.2 else spoilt["messages"][-1]
        at[rng.choice([*at, "extra"])] = rng.choice([*ODD, [rng.choice(ODD)]])
        return json.dumps(spoilt).encode()
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(body) + 1)
        end = start + rng.randrange(9)
        body[start:end] = rng.choice([b"", rng.randbytes(1), b'"', b"[", b"}", bytes(body[:end])])
    return bytes(body)


def status_of(app: App, body: bytes) -> str:
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/generate",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(body),
    }
    reply = app(environ, lambda status, headers: statuses.append(status))
    assert b"".join(reply)
    if hasattr(reply, "close"):
        reply.close()
    return statuses[0][:3]


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of the passwords are wrong."""
    monkeypatch.setattr("aichatfree.gateway._login_throttle.FREE", 1_000_000)


@pytest.mark.usefixtures("no_waits")
def test_a_hundred_thousand_bodies_do_no_harm() -> None:
    """Each gives an answer or a refusal, never a 5xx, and leaves nothing in memory."""
    rng = random.Random(20)
    app = App(
        Echo(), secret="", passwords=["sesame"], time_window=None, max_streams=2, max_body=10_000
    )
    found: Counter[str] = Counter()
    found.update(status_of(app, random_body(rng)) for _ in range(5_000))
    gc.collect()
    before = sys.getallocatedblocks()
    found.update(status_of(app, random_body(rng)) for _ in range(95_000))
    gc.collect()
    assert sys.getallocatedblocks() - before < 5_000
    assert set(found) == {"200", "400", "401"}
    assert min(found.values()) > 5_000


@pytest.mark.usefixtures("no_waits")
def test_thousands_of_bodies_over_sockets_do_no_harm() -> None:
    """So it is on real connections, where a reply belongs to its own request."""
    rng = random.Random(21)

    def send(number: int) -> set[int]:
        return {session.post(url, random_body(rng), timeout=30).status_code for _ in range(number)}

    with Gateway(Echo(), password="sesame") as gateway, requests.Session() as session:
        url = f"{gateway.url}/api/generate"
        found = send(1_500)
        tracemalloc.start()
        try:
            send(100)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            found |= send(700)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert found == {200, 400, 401}
        assert grown < 70_000
        assert post(gateway, signed(password="sesame")).text == "Hello"
