"""Which requests are accepted: signature, password and time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from aichatfree._protocol.signing import generate_signature
from aichatfree.gateway import Gateway
from helpers import Echo, signature, signed_body

from .connections import post

INVALID_SIGNATURE = {"error": {"message": "Invalid signature."}}


@pytest.mark.parametrize(
    "text", ["a b ", "Привет", "👋🏽", "e\u0301", '"\\\n\t\0', "\ud83d", "a" * 50_000]
)
def test_the_signature_is_that_of_the_exact_text(text: str) -> None:
    """Any text is accepted with its own signature, and refused with that of another text."""
    moment = 1_700_000_000_000
    # json.dumps writes a lone surrogate as an escape, as a browser does.
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "parts": [{"text": text}]}],
        "time": moment,
    }
    with Gateway(Echo(), secret="key") as gateway:
        sign = generate_signature(moment, text, "key")
        assert post(gateway, signed_body(sign=sign, **fields)).status_code == 200
        other = generate_signature(moment, text + " ", "key")
        assert post(gateway, signed_body(sign=other, **fields)).status_code == 401


@pytest.mark.parametrize(
    ("moment", "printed"),
    [
        ("1700000000000.0", "1700000000000"),
        ("1700000000123456789", "1700000000123456789"),
        ('"1700000000000"', "1700000000000"),
        ("true", "True"),
        ("null", "None"),
        ("[]", "[]"),
    ],
)
def test_a_time_that_is_not_a_safe_integer_is_refused(moment: str, printed: str) -> None:
    """A time that is not an integer, or too large for JavaScript, is refused although the signature
    matches.
    """
    body = signed_body(time="HERE", sign=signature(printed, "Hello"))
    with Gateway(Echo()) as gateway:
        response = post(gateway, body.replace(b'"HERE"', moment.encode()))
    assert (response.status_code, response.json()) == (401, INVALID_SIGNATURE)


@pytest.mark.parametrize("sign", [None, "", "0" * 64, "A" * 64, 7, "ключ", "\ud83d"])
def test_a_wrong_signature_is_refused(sign: object) -> None:
    """A signature that does not match, of whatever type, gives a 401."""
    with Gateway(Echo()) as gateway:
        response = post(gateway, signed_body(sign=sign))
    assert (response.status_code, response.json()) == (401, INVALID_SIGNATURE)


def test_the_password_is_checked_before_the_signature() -> None:
    """If both the password and the signature are wrong, the error names the password."""
    with Gateway(Echo(), password="sesame") as gateway:
        response = post(gateway, signed_body(password="Sesame", sign=""))
    assert response.status_code == 401
    assert response.json()["error"]["message"] == "Invalid password."


@pytest.mark.parametrize(
    ("password", "valid"), [("one", True), ("два", True), ("three", False), (None, False)]
)
def test_a_gateway_can_have_several_passwords(password: str | None, valid: bool) -> None:
    """Each of several passwords is accepted, by `/api/auth` and with a question; others are not."""
    with Gateway(Echo(), password=["one", "два"]) as gateway:
        response = post(gateway, json.dumps({"pass": password}), "/api/auth")
        assert (response.status_code, response.json()) == (200, {"code": 0 if valid else -1})
        status = post(gateway, signed_body(password=password)).status_code
    assert status == (200 if valid else 401)


@pytest.mark.parametrize(("off", "words"), [(-412, "412 s behind"), (500, "500 s ahead of")])
def test_a_time_outside_the_window_is_refused_with_its_difference(off: int, words: str) -> None:
    """The error for a time outside the window says by how many seconds the clock is wrong."""
    moment = round((time.time() + off) * 1000)
    body = signed_body(time=moment, sign=signature(moment, "Hello"))
    with Gateway(Echo(), time_window=60) as gateway:
        response = post(gateway, body)
    assert response.status_code == 401
    assert words in response.json()["error"]["message"]


def test_a_time_in_seconds_is_understood() -> None:
    """A client that counts in seconds instead of milliseconds is within the time window."""
    moment = int(time.time())
    body = signed_body(time=moment, sign=signature(moment, "Hello"))
    with Gateway(Echo(), time_window=60) as gateway:
        assert post(gateway, body).status_code == 200
