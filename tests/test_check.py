from __future__ import annotations

import socket

import pytest

from aichatfree import Health
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor


def finding(health: Health, name: str) -> tuple[bool | None, str]:
    found = next(finding for finding in health.findings if finding.name == name)
    return found.ok, found.detail


def test_a_site_that_works_is_all_right(client_for: ClientFor) -> None:
    """Every line is ok, and there is one for each thing."""
    with FakeSite("Hello", verify=True, secret="s", password="p") as site:
        health = client_for(site.url, secret="s", password="p").check()
    assert health.ok
    assert [f.name for f in health.findings] == ["url", "clock", "password", "signature", "answer"]
    assert all(f.ok for f in health.findings)
    assert len(str(health).splitlines()) == 5


def test_a_wrong_password_is_named(client_for: ClientFor) -> None:
    """The password's line says which setting to change."""
    with FakeSite("Hello", verify=True, password="p") as site:
        for password in ("wrong", None):
            health = client_for(site.url, password=password).check()
            ok, detail = finding(health, "password")
            assert (ok, health.ok) == (False, False)
            assert "AICHATFREE_PASSWORD" in detail


def test_a_wrong_secret_is_named(client_for: ClientFor) -> None:
    """The signature's line says which setting to change."""
    with FakeSite("Hello", verify=True, secret="s") as site:
        health = client_for(site.url, secret="wrong").check()
    ok, detail = finding(health, "signature")
    assert (ok, health.ok) == (False, False)
    assert "AICHATFREE_SECRET" in detail


def test_a_wrong_path_is_named(client_for: ClientFor) -> None:
    """The URL's line says that no chat API is there."""
    with FakeSite("Hello") as site:
        health = client_for(f"{site.url}/chat").check()
    ok, detail = finding(health, "url")
    assert (ok, health.ok) == (False, False)
    assert "404" in detail


def test_a_dead_port_is_named(client_for: ClientFor) -> None:
    """Nothing else is tried where nothing answers."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    health = client_for(f"http://127.0.0.1:{port}").check()
    assert [f.name for f in health.findings] == ["url"]
    assert finding(health, "url")[0] is False
    assert "refused" in str(health)


@pytest.mark.parametrize("offset", [3600, -3600])
def test_a_wrong_clock_is_named(client_for: ClientFor, offset: int) -> None:
    """The clock's line says how far it is off, and which way."""
    with FakeSite("Hello", clock_offset=offset) as site:
        health = client_for(site.url).check()
    ok, detail = finding(health, "clock")
    assert (ok, health.ok) == (False, False)
    assert "3600 s" in detail or "3599 s" in detail or "3601 s" in detail
    assert ("behind" if offset > 0 else "ahead") in detail


def test_a_web_page_is_named(client_for: ClientFor) -> None:
    """A site that answers with HTML has no API at this URL."""
    page = Answer("<html>Welcome</html>", content_type="text/html; charset=utf-8")
    with FakeSite([page]) as site:
        health = client_for(site.url).check()
    ok, detail = finding(health, "url")
    assert (ok, health.ok) == (False, False)
    assert "web page" in detail


def test_a_site_that_fails_is_named(client_for: ClientFor) -> None:
    """The answer's line has the site's own words."""
    with FakeSite([Answer(status=503, body="overloaded today")]) as site:
        health = client_for(site.url).check()
        assert len([r for r in site.requests if r.path == "/api/generate"]) == 1
    ok, detail = finding(health, "answer")
    assert (ok, health.ok) == (False, False)
    assert "overloaded today" in detail
