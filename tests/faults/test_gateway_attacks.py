"""The gateway under attack: replays."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from aichatfree import AuthenticationError, Client
from aichatfree.error_replies import error_from_reply
from aichatfree.gateway import Gateway
from aichatfree.gateway.replays import Replays
from aichatfree.protocol import Message, Site, generate_signature, messages_from, request_body


class Echo:
    """An engine that repeats the question."""

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        yield messages[-1]["content"]

    def close(self) -> None:
        pass


class Clock:
    """A clock that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def signed(text: str = "Hello", secret: str = "", password: str | None = None) -> bytes:
    site = Site(secret=secret)
    messages = messages_from(text, None, site.dialect)
    return request_body(site, messages, now=time.time(), password=password)


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
    error = error_from_reply(reply.status_code, reply.headers, reply.content, Site())
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
    monkeypatch.setattr("aichatfree.gateway.replays.MOST", 2)
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
    monkeypatch.setattr("aichatfree.gateway.replays.MOST", 2)
    clock = Clock()
    replays = Replays(60, clock)
    assert replays.is_new("a")
    assert replays.is_new("b")
    clock.now += 119
    assert not replays.is_new("a")
    clock.now += 2
    assert replays.is_new("c")
    assert replays.is_new("d")
