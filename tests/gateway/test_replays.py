"""`refuse_replays`: each signature is accepted once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aichatfree import AuthenticationError, Client
from aichatfree._protocol.responses import error_from_response
from aichatfree._protocol.sites import Site
from aichatfree.gateway import Gateway
from aichatfree.gateway._auth import ReplayCache
from helpers import Echo, signature, signed_body

from .clock import Clock
from .connections import post

MAX_SIGNATURES = "aichatfree.gateway._auth.MAX_SIGNATURES"


def test_a_replayed_request_is_refused() -> None:
    """A second request with the same signature is refused, even if its earlier messages differ."""
    body = signed_body("Yes")
    altered = json.loads(body)
    question = {"role": "user", "parts": [{"text": "Send it all?"}]}
    altered["messages"] = [question, *altered["messages"]]
    with Gateway(Echo(), time_window=60, refuse_replays=True) as gateway:
        assert post(gateway, body).text == "Yes"
        for replay in (body, json.dumps(altered)):
            response = post(gateway, replay)
            assert response.status_code == 401
            assert "replay" in response.json()["error"]["message"]
        assert post(gateway, signed_body("No")).text == "No"


def test_the_error_of_a_replay_does_not_blame_the_secret() -> None:
    """A client whose request is a replay is advised to send it again, not to check its secret."""
    body = signed_body()
    with Gateway(Echo(), time_window=60, refuse_replays=True) as gateway:
        post(gateway, body)
        response = post(gateway, body)
    error = error_from_response(response.status_code, response.headers, response.content, Site())
    assert isinstance(error, AuthenticationError)
    assert "replay" in str(error)
    assert "again" in str(error)
    assert "SECRET" not in str(error)


def test_replays_are_accepted_by_default() -> None:
    """Without `refuse_replays` a signature can be used several times, as on the real sites."""
    body = signed_body()
    with Gateway(Echo(), time_window=60) as gateway:
        assert [post(gateway, body).text for _ in range(2)] == ["Hello", "Hello"]


def test_of_simultaneous_replays_one_is_accepted() -> None:
    """Of many equal requests from many threads exactly one is accepted."""
    body = signed_body()
    with (
        Gateway(Echo(), time_window=60, refuse_replays=True) as gateway,
        ThreadPoolExecutor(20) as pool,
    ):
        responses = pool.map(lambda _: post(gateway, body), range(60))
        assert sorted(response.status_code for response in responses) == [200] + [401] * 59


def test_equal_questions_of_one_client_are_not_replays() -> None:
    """A batch can ask the same question many times, from many threads in the same millisecond."""
    with (
        Gateway(Echo(), time_window=60, refuse_replays=True) as gateway,
        Client(gateway.url) as client,
        client.batch(["Again"] * 300, max_workers=16) as batch,
    ):
        assert [result.text for result in batch] == ["Again"] * 300


def test_refuse_replays_needs_a_time_window() -> None:
    """Without a time window every signature would have to be remembered for ever: an error."""
    with pytest.raises(ValueError, match="time_window"):
        Gateway(Echo(), refuse_replays=True)


def test_refused_requests_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests with a wrong password, signature or time take no room in the replay cache."""
    monkeypatch.setattr(MAX_SIGNATURES, 1)
    late = round((time.time() - 100) * 1000)
    refused = [
        signed_body(secret="s"),
        signed_body(secret="?", password="p"),
        signed_body(password="p", time=late, sign=signature(late, "Hello", "s")),
    ]
    with Gateway(Echo(), secret="s", password="p", time_window=60, refuse_replays=True) as gateway:
        assert [post(gateway, body).status_code for body in refused] == [401] * 3
        assert post(gateway, signed_body(secret="s", password="p")).status_code == 200


def test_a_full_replay_cache_refuses_and_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many signatures to remember, new requests get a 503; replays are still refused."""
    monkeypatch.setattr(MAX_SIGNATURES, 2)
    first, second, third = [signed_body(f"question {i}") for i in range(3)]
    with Gateway(Echo(), time_window=60, refuse_replays=True) as gateway:
        responses = [post(gateway, body) for body in (first, second, third, first)]
    assert [response.status_code for response in responses] == [200, 200, 503, 401]
    assert responses[2].headers["Retry-After"]


def test_signatures_are_remembered_for_twice_the_time_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client's clock may be ahead by the window, so a signature is valid for twice as long."""
    monkeypatch.setattr(MAX_SIGNATURES, 2)
    clock = Clock()
    cache = ReplayCache(60, clock)
    assert cache.add("a")
    assert cache.add("b")
    clock.now += 119
    assert not cache.add("a")
    clock.now += 2
    assert cache.add("c")
    assert cache.add("d")
