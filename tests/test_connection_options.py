"""Headers, proxies, sessions and redirects: how a client reaches its site."""

from __future__ import annotations

import os
from typing import Any

import pytest
import requests
import responses

from aichatfree import APITimeoutError, ProtocolError, RateLimitError
from aichatfree.testing import Answer, FakeSite
from helpers import UNREACHABLE, ClientFor


def test_a_redirect_is_not_followed_with_the_password(client_for: ClientFor) -> None:
    """A redirect is an error that names the new address, and the other host gets no request."""
    with FakeSite("Hello") as other:
        moved = Answer(status=307, body="", headers={"Location": f"{other.url}/api/generate"})
        with FakeSite([moved]) as site, pytest.raises(ProtocolError, match=other.url):
            client_for(site.url, password="p").generate("Hi")
        assert other.requests == []


def test_headers_are_added_to_every_request(client_for: ClientFor) -> None:
    """headers= are sent with each request and replace defaults; Origin is that of the site."""
    with FakeSite("Hello") as site:
        client_for(site.url, headers={"X-Mine": "1", "User-Agent": "me"}).generate("Hi")
        headers = site.requests[0].headers
        assert (headers["X-Mine"], headers["User-Agent"]) == ("1", "me")
        assert headers["Origin"] == site.url
        assert headers["Accept-Encoding"] == "identity"


def test_a_proxy_from_the_environment_is_used(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client uses HTTP_PROXY and NO_PROXY as they were when it was created."""
    with FakeSite("through the proxy") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client = client_for("http://site.example")
        monkeypatch.delenv("HTTP_PROXY")
        assert client.generate("Hi").text == "through the proxy"
        assert proxy.requests[0].path == "http://site.example/api/generate"
        monkeypatch.setenv("HTTP_PROXY", UNREACHABLE)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert client_for(proxy.url).generate("Hi").text == "through the proxy"


def test_a_proxy_from_an_argument_is_used(client_for: ClientFor) -> None:
    """proxies= is a mapping from scheme to proxy URL, as in requests."""
    with FakeSite("through the proxy") as proxy:
        client = client_for("http://site.example", proxies={"http": proxy.url})
        assert client.generate("Hi").text == "through the proxy"


def test_a_netrc_file_is_ignored(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Credentials from a .netrc file are not sent to the site."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine")
    os.chmod(netrc, 0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeSite("Hello") as site:
        client_for(site.url).generate("Hi")
        assert "Authorization" not in site.requests[0].headers


def test_a_given_session_is_used_and_not_closed(client_for: ClientFor) -> None:
    """The headers of session= are sent, and closing the client does not close the session."""
    with FakeSite("Hello") as site, requests.Session() as session:
        session.headers["X-Session"] = "mine"
        client = client_for(site.url, session=session)
        assert client.generate("Hi").text == "Hello"
        client.close()
        assert session.get(site.url).status_code == 200
        assert site.requests[0].headers["X-Session"] == "mine"


@responses.activate
def test_users_can_test_with_responses(client_for: ClientFor) -> None:
    """The library responses, a mock of requests, can stand in for a site."""
    responses.post("https://site.example/api/generate", body="Привет", content_type="text/plain")
    responses.post("https://site.example/api/generate", status=429, body="slow down")
    client = client_for("https://site.example", retry=None)
    assert client.generate("Hi").text == "Привет"
    with pytest.raises(RateLimitError, match="slow down"):
        client.generate("Hi")
    assert responses.calls[0].request.headers["Origin"] == "https://site.example"


@responses.activate
def test_a_timeout_of_requests_means_silence(client_for: ClientFor) -> None:
    """A ReadTimeout without a cause, as mocks raise it, is an APITimeoutError."""
    responses.post("https://site.example/api/generate", body=requests.ReadTimeout("slow"))
    with pytest.raises(APITimeoutError, match="silent"):
        client_for("https://site.example", retry=None).generate("Hi")
