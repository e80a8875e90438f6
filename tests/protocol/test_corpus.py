"""The responses in ``tests/corpus``, and what a client makes of each of them."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from requests.structures import CaseInsensitiveDict

from aichatfree import APIError, Site
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree._protocol.dialects import DIALECTS
from aichatfree._protocol.responses import error_from_response, not_an_answer
from aichatfree.errors import StatedLimits

CORPUS: Final = Path(__file__).parent.parent / "corpus"
KEYS: Final = {
    *("name", "status", "headers", "chunks", "body", "dialect", "ignore", "error", "text"),
    *("reasoning", "wait", "requests", "period", "exhausted", "retryable", "fatal"),
    *("rejection", "possible_rejection", "says", "does_not_say", "needs_chunks"),
}
CASES: Final = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(CORPUS.glob("*.toml"))
    for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
]


def result_of(case: dict[str, Any], chunks: list[bytes] | None = None) -> tuple[Any, ...]:
    """The text, the reasoning and the error that a client makes of a response."""
    site = Site(
        dialect=DIALECTS[case.get("dialect", "gemini")], ignore=tuple(case.get("ignore", ()))
    )
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(case.get("headers", {}))
    if chunks is None:
        chunks = [chunk.encode() for chunk in case.get("chunks", [case.get("body", "")])]
    status = case.get("status", 200)
    if not 200 <= status < 300:
        return "", "", error_from_response(status, headers, b"".join(chunks), site)
    error: APIError | None = not_an_answer(status, headers)
    if error is not None:
        return "", "", error
    decoder = ReplyDecoder(framed="chunks" in case, site=site, headers=headers)
    text = ""
    try:
        for chunk in chunks:
            text += decoder.feed(chunk)
        rest, error = decoder.finish()
    except APIError as web_page:
        return text, "", web_page
    return text + rest, decoder.reasoning, error


@pytest.mark.parametrize("case", CASES)
def test_what_a_client_makes_of_a_response(case: dict[str, Any]) -> None:
    """The error, text, waits, limits and retry decisions are those of the case."""
    assert set(case) <= KEYS
    text, reasoning, error = result_of(case)
    name = None if error is None else type(error).__name__
    assert name == case.get("error"), str(error)
    complete = "".join(case.get("chunks", [case.get("body", "")]))
    assert text == case.get("text", "" if error else complete)
    assert reasoning == case.get("reasoning", reasoning)
    if error is None:
        return
    limits = dataclasses.asdict(error.limits or StatedLimits())
    for key in ("wait", "requests", "period"):
        assert limits[key] == pytest.approx(case.get(key, limits[key] if key != "wait" else None))
    assert error.retry_after == pytest.approx(case.get("wait"))
    assert (limits["exhausted_until"] is not None) == case.get("exhausted", False)
    for key in ("retryable", "fatal", "rejection", "possible_rejection"):
        assert getattr(error, key) == case.get(key, getattr(error, key)), key
    for words in case.get("says", ()):
        assert words in str(error)
    for words in case.get("does_not_say", ()):
        assert words not in str(error)
