"""Successful responses that are not an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree import RateLimitError
from aichatfree._protocol.responses import error_in_body, not_an_answer

from .error_responses import QUOTA_PHRASE, SITE, assert_presentable, steady

headers_of_any_kind = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Transfer-Encoding"]),
    st.text(st.characters(exclude_categories=[]), max_size=30),
)


def test_quota_error() -> None:
    """The quota phrase as a 200 is a RateLimitError that quotes it and says what to do."""
    error = error_in_body(QUOTA_PHRASE, {}, SITE)
    assert type(error) is RateLimitError
    assert error.status_code == 200
    assert error.body == QUOTA_PHRASE
    assert QUOTA_PHRASE in str(error)
    assert "another site" in str(error)


def test_quota_error_is_presentable() -> None:
    """A quota phrase of any length and with any characters is a presentable error."""
    error = error_in_body(QUOTA_PHRASE + "。" + "a\n\x00" * 60, {}, SITE)
    assert error is not None
    assert_presentable(error)


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"Content-Type": "text/html"}, "a web page"),
        ({"Content-Type": " Text/HTML ; charset=utf-8"}, "a web page"),
        ({"Content-Type": "application/xhtml+xml"}, "a web page"),
        ({"Content-Type": "application/json"}, "JSON"),
        ({"Content-Type": "application/json; charset=utf-8"}, "JSON"),
        ({"Content-Encoding": "br"}, "a compressed body"),
        ({"Content-Encoding": " GZIP "}, "a compressed body"),
        ({"Transfer-Encoding": "gzip, chunked"}, "a compressed body"),
    ],
)
def test_not_an_answer(headers: dict[str, str], what: str) -> None:
    """A 200 with a web page, JSON or compression is a ProtocolError that advises base_url=."""
    error = not_an_answer(200, headers)
    assert error is not None
    assert error.status_code == 200
    assert f"answered 200 with {what}" in str(error)
    assert "base_url= (AICHATFREE_BASE_URL)" in str(error)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain; charset=utf-8"},
        {"Content-Type": "text/event-stream"},
        {"Content-Type": "application/octet-stream"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Encoding": "identity"},
    ],
    ids=repr,
)
def test_an_answer(headers: dict[str, str]) -> None:
    """A 200 with plain text, or with bytes of no stated type, may be an answer."""
    assert not_an_answer(200, headers) is None


@steady
@given(st.integers(200, 299), headers_of_any_kind)
def test_not_an_answer_never_fails(status: int, headers: dict[str, str]) -> None:
    """For any headers of a 2xx the result is None or a presentable error."""
    error = not_an_answer(status, headers)
    if error is not None:
        assert_presentable(error)
