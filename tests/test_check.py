"""The findings of ``Client.check`` about sites that work and sites that do not."""

from __future__ import annotations

import pytest

from aichatfree import Health
from aichatfree.testing import Answer, FakeSite
from helpers import UNREACHABLE, ClientFor


def finding_of(health: Health, name: str) -> tuple[bool | None, str]:
    found = next(finding for finding in health.findings if finding.name == name)
    return found.ok, found.detail


def test_a_working_site_passes_every_check(client_for: ClientFor) -> None:
    """For a working site each of the five findings is ok, and is printed on one line."""
    with FakeSite("Hello", verify=True, secret="s", password="p") as site:
        health = client_for(site.url, secret="s", password="p").check()
    assert health.ok
    assert [f.name for f in health.findings] == ["url", "clock", "password", "signature", "answer"]
    assert all(f.ok for f in health.findings)
    assert len(str(health).splitlines()) == 5


def test_a_wrong_password_is_found(client_for: ClientFor) -> None:
    """For a wrong or missing password the finding names the setting to change."""
    with FakeSite("Hello", verify=True, password="p") as site:
        for password in ("wrong", None):
            health = client_for(site.url, password=password).check()
            ok, detail = finding_of(health, "password")
            assert (ok, health.ok) == (False, False)
            assert "AICHATFREE_PASSWORD" in detail


def test_a_wrong_secret_is_found(client_for: ClientFor) -> None:
    """For a wrong secret the finding about the signature names the setting to change."""
    with FakeSite("Hello", verify=True, secret="s") as site:
        health = client_for(site.url, secret="wrong").check()
    ok, detail = finding_of(health, "signature")
    assert (ok, health.ok) == (False, False)
    assert "AICHATFREE_SECRET" in detail


def test_a_wrong_path_is_found(client_for: ClientFor) -> None:
    """For a base URL with a wrong path the finding about the URL states the 404."""
    with FakeSite("Hello") as site:
        health = client_for(f"{site.url}/chat").check()
    ok, detail = finding_of(health, "url")
    assert (ok, health.ok) == (False, False)
    assert "404" in detail


def test_a_refused_connection_is_found(client_for: ClientFor) -> None:
    """If the connection is refused the only finding is about the URL, and says so."""
    health = client_for(UNREACHABLE).check()
    assert [f.name for f in health.findings] == ["url"]
    assert finding_of(health, "url")[0] is False
    assert "refused" in str(health)


@pytest.mark.parametrize("offset", [3600, -3600])
def test_a_wrong_clock_is_found(client_for: ClientFor, offset: int) -> None:
    """If this machine's clock is wrong, the finding states by how much and in which direction."""
    with FakeSite("Hello", clock_offset=offset) as site:
        health = client_for(site.url).check()
    ok, detail = finding_of(health, "clock")
    assert (ok, health.ok) == (False, False)
    assert "3600 s" in detail or "3599 s" in detail or "3601 s" in detail
    assert ("behind" if offset > 0 else "ahead") in detail


def test_a_web_page_is_found(client_for: ClientFor) -> None:
    """If the site answers with HTML, the finding about the URL says that it is a web page."""
    page = Answer("<html>Welcome</html>", content_type="text/html; charset=utf-8")
    with FakeSite([page]) as site:
        health = client_for(site.url).check()
    ok, detail = finding_of(health, "url")
    assert (ok, health.ok) == (False, False)
    assert "web page" in detail


def test_a_failing_site_is_found(client_for: ClientFor) -> None:
    """If the site fails, the finding about the answer quotes it, after a single request."""
    with FakeSite([Answer(status=503, body="overloaded today")]) as site:
        health = client_for(site.url).check()
        assert len([r for r in site.requests if r.path == "/api/generate"]) == 1
    ok, detail = finding_of(health, "answer")
    assert (ok, health.ok) == (False, False)
    assert "overloaded today" in detail
