"""API keys: the gateway's password in OpenAI's API."""

from __future__ import annotations

import pytest
import requests

from aichatfree.gateway import Gateway
from helpers import LONG, Echo


def models(gateway: Gateway, authorization: str | None) -> requests.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return requests.get(f"{gateway.url}/v1/models", headers=headers, timeout=LONG)


@pytest.mark.parametrize("secret", ["", "s3cret"])
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer sesame", 200),
        ("bearer  sesame ", 200),
        ("Bearer other", 200),
        ("Bearer wrong", 401),
        ("Bearer s3cret", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        ("Basic sesame", 401),
        ("sesame", 401),
        (None, 401),
    ],
)
def test_the_key_is_one_of_the_passwords(
    secret: str, authorization: str | None, status: int
) -> None:
    """A request needs one of the gateway's passwords as its key, whether there is a secret or not;
    it needs no signature.
    """
    with Gateway(Echo(), secret=secret, password=["sesame", "other"]) as gateway:
        response = models(gateway, authorization)
    assert response.status_code == status
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", ["", "s3cret", "anything"])
def test_a_gateway_with_a_secret_and_no_password_is_closed(key: str) -> None:
    """A secret protects the gateway by signatures, which this API has not: without a password
    nobody gets in, and the error says what is missing.
    """
    with Gateway(Echo(), secret="s3cret") as gateway:
        response = models(gateway, f"Bearer {key}")
    assert response.status_code == 401
    assert "AICHATFREE_PASSWORD" in response.json()["error"]["message"]


def test_a_gateway_without_a_secret_and_a_password_takes_any_key() -> None:
    """Most clients insist on sending a key."""
    with Gateway(Echo()) as gateway:
        assert {models(gateway, key).status_code for key in (None, "Bearer any")} == {200}


def test_guesses_are_counted_together_with_those_of_the_chat_protocol() -> None:
    """After three wrong keys an address has to wait, in both protocols; meanwhile right ones wait
    too.
    """
    with Gateway(Echo(), password="sesame") as gateway:
        assert [models(gateway, f"Bearer {i}").status_code for i in range(3)] == [401] * 3
        response = models(gateway, "Bearer sesame")
        chat = requests.post(f"{gateway.url}/api/auth", json={"pass": "sesame"}, timeout=LONG)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "1"
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert chat.status_code == 429
