"""Which sites can be described, and that a site shows no secret."""

from __future__ import annotations

import dataclasses
import pickle
import re
from typing import Any

import pytest

from aichatfree import OPENAI, Site
from aichatfree._protocol.meanings import MEANINGS
from aichatfree._protocol.sites import check_base_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://aichatfree.info", "https://aichatfree.info"),
        ("https://aichatfree.info/", "https://aichatfree.info"),
        ("http://127.0.0.1:8080//", "http://127.0.0.1:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://example.com/chat/", "https://example.com/chat"),
        ("https://example.com/@me", "https://example.com/@me"),
        ("https://example.com/api", "https://example.com/api"),
    ],
)
def test_base_url(url: str, expected: str) -> None:
    """A usable base URL is kept without the slashes at its end."""
    assert check_base_url(url) == expected
    assert Site(url).base_url == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "needs http:// or https:// and a host"),
        ("example.com", "needs http:// or https:// and a host"),
        ("localhost:3000", "needs http:// or https:// and a host"),
        ("//example.com", "needs http:// or https:// and a host"),
        ("ftp://example.com", "needs http:// or https:// and a host"),
        ("https://", "needs http:// or https:// and a host"),
        ("https://:443", "needs http:// or https:// and a host"),
        ("http://example.com:0", "port 0"),
        ("http://example.com:65536", "not a URL"),
        ("http://example.com:http", "not a URL"),
        ("http://[::1", "not a URL"),
        ("https://example.com/?a=b", r"\? or # part"),
        ("https://example.com/#top", r"\? or # part"),
        ("https://example.com/a b", "space or control character"),
        (" https://example.com", "space or control character"),
        ("https://example.com\n", "space or control character"),
        ("https://example.com\x00", "space or control character"),
        ("https://example\u200b.com", "space or control character"),
        ("https://example.com/api/generate", "before /api/generate"),
        ("https://example.com/chat/api/generate/", "before /api/generate"),
    ],
)
def test_base_url_rejected(url: str, message: str) -> None:
    """A base URL that cannot be used is a ValueError whose message says why."""
    with pytest.raises(ValueError, match=message):
        Site(url)


@pytest.mark.parametrize("url", ["https://example.com?", "https://example.com/#"])
def test_base_url_with_an_empty_query(url: str) -> None:
    """A bare ``?`` or ``#`` at the end is a ValueError, since the path could not follow it."""
    with pytest.raises(ValueError, match=r"\? or # part"):
        check_base_url(url)


@pytest.mark.parametrize("url", [b"https://example.com", None, 5])
def test_base_url_not_text(url: Any) -> None:
    """A base URL that is not a str is a TypeError."""
    with pytest.raises(TypeError, match="base_url must be a str"):
        Site(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://alice:hunter2@example.com",
        "https://hunter2@example.com",
        "https://:hunter2@example.com",
        "ftp://alice:hunter2@example.com",
        "https://alice:hunter2@example.com:0/?a#b",
        "https://alice:hunter2@example.com:bad",
        "//alice:hunter2@example.com",
        "alice:hunter2@example.com",
        "https:/alice:hunter2@example.com",
        "https://alice:hunter2/x@example.com",
        "https://alice:1?hunter2@example.com",
        "https://alice:hunter2@ex\u2100mple.com",
    ],
)
def test_base_url_with_credentials(url: str) -> None:
    """A URL with a user name or password is a ValueError that does not show them."""
    with pytest.raises(ValueError, match="base_url") as caught:
        check_base_url(url)
    assert "hunter2" not in str(caught.value)
    # A traceback prints the context of an error too.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://aichatfree.info", "https://aichatfree.info"),
        ("http://127.0.0.1:8080/chat", "http://127.0.0.1:8080"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    """The origin of a site is its scheme, host and port, without the path."""
    assert Site(url).origin == origin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("https://пример.рф", "https://xn--e1afmkfd.xn--p1ai"),
    ],
)
def test_origin_as_a_browser_writes_it(url: str, origin: str) -> None:
    """The origin is written as by a browser: in lower case and ASCII, without a default port."""
    assert Site(url).origin == origin


@pytest.mark.parametrize("unit", ["", "us", "MS", "seconds"])
def test_unknown_time_unit(unit: Any) -> None:
    """A unit of time other than "ms" and "s" is a ValueError."""
    with pytest.raises(ValueError, match='takes "ms" or "s"'):
        Site(time_unit=unit)


@pytest.mark.parametrize("dialect", ["gemini", None])
def test_site_dialect_is_a_dialect(dialect: Any) -> None:
    """A dialect's name in place of a ``Dialect`` is a TypeError."""
    with pytest.raises(TypeError, match="takes a Dialect"):
        Site(dialect=dialect)


def test_secret_not_text() -> None:
    """A secret that is not a str is a TypeError that does not show it."""
    secret: Any = b"hunter2"
    with pytest.raises(TypeError, match="must be a str, not bytes") as caught:
        Site(secret=secret)
    assert "hunter2" not in str(caught.value)


def test_site_does_not_show_its_secret() -> None:
    """Neither the repr nor the str of a site contains its secret."""
    site = Site(secret="hunter2")
    assert "hunter2" not in f"{site!r} {site}"


def test_site_is_a_value() -> None:
    """A site is immutable, and pickling gives an equal site with its secret."""
    site = Site("http://127.0.0.1:1/", dialect=OPENAI, secret="k")
    with pytest.raises(dataclasses.FrozenInstanceError):
        site.secret = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(site)) == site
    assert dataclasses.replace(site, secret="other") != site


def test_the_docstring_has_all_meanings() -> None:
    """The docstring of ``Site`` names exactly the meanings that a site's own sentence can have."""
    described = (Site.__doc__ or "").partition(" sentences: ")[2].partition(" ignore: ")[0]
    assert sorted(re.findall(r'``"(.+?)"``', described)) == sorted(MEANINGS)
