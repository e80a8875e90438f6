"""Random requests: each gets an answer or a refusal, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import tracemalloc
from collections import Counter
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree.gateway import Gateway
from aichatfree.gateway._access_log import AccessLogEntry
from aichatfree.gateway._app import App
from aichatfree.gateway._auth import Authenticator
from aichatfree.gateway._fronts.chat_sites import ChatSiteFront
from aichatfree.gateway._fronts.front import Request
from aichatfree.gateway._responses import RefusalError, Response
from aichatfree.gateway._slots import Slots
from helpers import LONG, Echo, signature, signed_body

from .connections import post

MOMENT = 1_700_000_000_000
VALID: dict[str, Any] = {
    "messages": [{"role": "user", "parts": [{"text": "Hello"}]}],
    "time": MOMENT,
    "pass": "sesame",
    "sign": signature(MOMENT, "Hello"),
}
VALID_OPENAI: dict[str, Any] = {
    **VALID,
    "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Hello"}],
    "temperature": 1,
}
BODIES = [json.dumps(body).encode() for body in (VALID, VALID_OPENAI)]
WRONG_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    10**30,
    "",
    "x",
    "\ud83d",
    [],
    {},
    [[]],
    {"": 0},
]


def random_body(rng: random.Random) -> bytes:
    """Random bytes, or a valid body with a random field or with random bytes."""
    kind = rng.random()
    if kind < 0.1:
        return rng.randbytes(rng.randrange(200))
    body = bytearray(rng.choice(BODIES))
    if kind < 0.5:
        changed = json.loads(body)
        at = changed if kind < 0.2 else changed["messages"][-1]
        at[rng.choice([*at, "extra"])] = rng.choice([*WRONG_VALUES, [rng.choice(WRONG_VALUES)]])
        return json.dumps(changed).encode()
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(body) + 1)
        end = start + rng.randrange(9)
        body[start:end] = rng.choice([b"", rng.randbytes(1), b'"', b"[", b"}", bytes(body[:end])])
    return bytes(body)


def app(*passwords: str) -> App:
    """The gateway without its server."""
    front = ChatSiteFront(Authenticator(passwords=passwords))
    return App(Echo(), [front], Slots(2, timeout=LONG))


async def status_of(app: App, body: bytes) -> int:
    """The status that the application gives a question with this body."""
    request = Request("POST", "/api/generate", {}, body, "127.0.0.1", framed=False)
    front = app.front(request.path)
    try:
        response = await app.respond(front, request, AccessLogEntry("127.0.0.1", "POST"))
    except RefusalError as error:
        response = front.refusal(error)
    assert isinstance(response, Response)
    assert response.body
    return response.status


@pytest.fixture
def no_login_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number of wrong passwords causes a wait."""
    monkeypatch.setattr("aichatfree.gateway._auth.FREE_ATTEMPTS", 1_000_000)


@pytest.mark.usefixtures("no_login_throttle")
def test_a_hundred_thousand_random_bodies_cause_no_error_and_no_leak() -> None:
    """Each body gives an answer or a refusal, never a 5xx, and the memory in use does not grow."""
    rng = random.Random(20)
    gateway = app("sesame")
    found: Counter[int] = Counter()

    async def send(number: int) -> None:
        for _ in range(number):
            found[await status_of(gateway, random_body(rng))] += 1

    with asyncio.Runner() as loop:
        loop.run(send(5_000))
        gc.collect()
        before = sys.getallocatedblocks()
        loop.run(send(95_000))
        gc.collect()
        assert sys.getallocatedblocks() - before < 5_000
    assert set(found) == {200, 400, 401}
    assert min(found.values()) > 5_000


@pytest.mark.usefixtures("no_login_throttle")
def test_thousands_of_random_bodies_over_sockets_cause_no_error_and_no_leak() -> None:
    """On real connections, too, each response belongs to its own request and no memory leaks."""
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
        assert post(gateway, signed_body(password="sesame")).text == "Hello"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["user", "model", "Hello", VALID["sign"], VALID["messages"]]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "parts", "text", "content", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from([*VALID, "temperature", "model"])
NEARLY_VALID = st.dictionaries(KEYS, JSON, max_size=3).map(
    lambda keys: json.dumps({**VALID, **keys}).encode()
)
CORRUPTED = st.builds(
    lambda body, at, junk: body[: at % len(body)] + junk + body[at % len(body) + len(junk) :],
    NEARLY_VALID,
    st.integers(0, 10_000),
    st.binary(max_size=3),
)


@settings(max_examples=500, deadline=None)
@given(body=st.binary(max_size=100) | NEARLY_VALID | CORRUPTED)
def test_no_body_makes_the_application_fail(body: bytes) -> None:
    """Any bytes, and any change of a valid body, give an answer, a 400 or a 401."""
    assert asyncio.run(status_of(app(), body)) in {200, 400, 401}
