"""After a few wrong passwords an address has to wait."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from aichatfree import AuthenticationError, Client, RateLimitError
from aichatfree.gateway import Gateway
from aichatfree.gateway._auth import LoginThrottle
from helpers import Echo, signed_body, wait_until

from .clock import Clock
from .connections import connect, post, read_response, request


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all login throttles of this test."""
    clock = Clock()
    monkeypatch.setattr("aichatfree.gateway._auth.LoginThrottle", lambda: LoginThrottle(clock))
    return clock


@pytest.mark.parametrize("path", ["/api/auth", "/api/generate"])
def test_after_three_wrong_passwords_even_the_right_one_has_to_wait(
    path: str, clock: Clock
) -> None:
    """The fourth attempt and all further ones get a 429 with the wait; after it the right password
    is accepted.
    """
    right = signed_body(secret="s", password="right")
    wrong = [signed_body(secret="s", password=f"wrong {i}") for i in range(4)]
    with Gateway(Echo(), secret="s", password="right") as gateway:
        responses = [post(gateway, body, path) for body in (*wrong, right)]
        checked = 200 if path == "/api/auth" else 401
        assert [response.status_code for response in responses] == [checked] * 3 + [429] * 2
        assert responses[-1].headers["Retry-After"] == "1"
        assert "wrong passwords" in responses[-1].json()["error"]["message"]
        clock.now += 1
        assert post(gateway, right, path).text in ('{"code": 0}', "Hello")


def test_a_client_with_the_right_password_waits_and_succeeds(clock: Clock) -> None:
    """After somebody else's guesses at the same address a client retries when the wait is over."""
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
        reads = clock.reads
        reply = pool.submit(client.generate, "Hello")
        wait_until(lambda: clock.reads > reads)
        clock.now += 1
        assert (reply.result().text, reply.result().attempts) == ("Hello", 2)


@pytest.mark.parametrize("path", ["/api/auth", "/api/generate"])
def test_guessers_do_not_delay_clients_that_know_the_secret(path: str) -> None:
    """While 300 connections send guesses without the right signature, few guesses are checked and
    clients with the secret get their answers.
    """
    stop = threading.Event()
    responses: list[bytes] = []
    guess = request(signed_body(secret="?", password="wrong"), path)

    def send_guesses(connections: list[socket.socket]) -> None:
        while not stop.is_set():
            for each in connections:
                each.sendall(guess)
            responses.extend(read_response(each) for each in connections)

    with (
        Gateway(Echo(), secret="s", password="right", max_streams=4) as gateway,
        ExitStack() as stack,
        Client(gateway.url, secret="s", password="right", retry=None) as client,
    ):
        connections = [stack.enter_context(connect(gateway)) for _ in range(300)]
        attacker = threading.Thread(target=send_guesses, args=[connections])
        attacker.start()
        try:
            for i in range(20):
                assert client.generate(f"question {i}").text == f"question {i}"
        finally:
            stop.set()
            attacker.join()
    checked = [each for each in responses if not each.startswith(b"HTTP/1.1 429 ")]
    assert len(responses) >= 300
    assert len(checked) < 20
    assert all(b"-1" in response or b"Invalid password" in response for response in checked)


def send_wrong(throttle: LoginThrottle, times: int, address: str = "1.2.3.4") -> list[float]:
    return [throttle.record_attempt(address, signed=True, valid=False) for _ in range(times)]


def test_the_wait_doubles_up_to_eight_seconds() -> None:
    """Each wrong password that is checked doubles the wait, from one second to at most eight."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    assert send_wrong(throttle, 3) == [0, 0, 0]
    waits = []
    for _ in range(3_000):
        (wait,) = send_wrong(throttle, 1)
        waits.append(wait)
        clock.now += wait
        assert send_wrong(throttle, 1) == [0]
    assert waits == [1, 2, 4] + [8] * 2_997


def test_a_right_password_clears_the_wrong_ones() -> None:
    """After a right password an address has three free attempts again."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    send_wrong(throttle, 3)
    clock.now += 2
    assert throttle.record_attempt("1.2.3.4", signed=True, valid=True) == 0
    assert send_wrong(throttle, 4) == [0, 0, 0, 1]


def test_wrong_passwords_are_forgotten_after_five_minutes() -> None:
    """After five minutes without an attempt an address has three free attempts again."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    send_wrong(throttle, 3)
    clock.now += 302
    assert send_wrong(throttle, 4) == [0, 0, 0, 1]


@pytest.mark.parametrize("guesser", ["1.2.3.4", "2001:db8::1"])
def test_other_addresses_do_not_have_to_wait(guesser: str) -> None:
    """Wrong passwords from one IPv4 address, or one IPv6 network, do not delay another one."""
    throttle = LoginThrottle(Clock())
    assert send_wrong(throttle, 4, guesser)[-1] == 1
    for other in ("1.2.3.5", "2001:db8:1::1"):
        assert throttle.record_attempt(other, signed=True, valid=True) == 0


def test_the_addresses_of_one_ipv6_network_wait_together() -> None:
    """The second half of an IPv6 address, which its user can choose, makes no difference."""
    throttle = LoginThrottle(Clock())
    send_wrong(throttle, 3, "2001:db8::1")
    assert throttle.record_attempt("2001:db8::ffff:2", signed=True, valid=True) == 1


def test_requests_with_and_without_a_valid_signature_are_counted_separately() -> None:
    """Guesses with a valid signature do not delay requests without one, nor the other way round."""
    throttle = LoginThrottle(Clock())
    send_wrong(throttle, 3)
    assert throttle.record_attempt("1.2.3.4", signed=False, valid=True) == 0
    assert throttle.record_attempt("1.2.3.4", signed=True, valid=True) == 1


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the address with the oldest attempt is forgotten, and the others are not."""
    monkeypatch.setattr("aichatfree.gateway._auth.MAX_ADDRESSES", 10)
    throttle = LoginThrottle(Clock())
    send_wrong(throttle, 3, "10.0.0.1")
    send_wrong(throttle, 3, "10.0.0.2")
    for i in range(9):
        assert send_wrong(throttle, 1, "10.0.0.1") == [1]
        send_wrong(throttle, 1, f"10.0.1.{i}")
    assert send_wrong(throttle, 1, "10.0.0.2") == [0]


def test_a_request_without_a_password_is_not_a_guess() -> None:
    """Web pages ask `/api/auth` without a password whether one is needed: that is not counted."""
    with Gateway(Echo(), password="right") as gateway:
        responses = [post(gateway, b'{"pass": null}', "/api/auth") for _ in range(8)]
        assert {response.text for response in responses} == {'{"code": -1}'}
        assert post(gateway, signed_body(password="right")).text == "Hello"
