"""How answers are shown in a notebook while they arrive, and as results of a cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import IPython.display
import pytest

from aichatfree import Reply
from aichatfree._output.notebook_display import (
    DRAW_INTERVAL,
    MAX_DRAWING_SHARE,
    MAX_HTML_LENGTH,
    show_arriving,
)
from aichatfree.testing import FakeSite
from helpers import UNREACHABLE, ClientFor


class Display:
    """Replaces IPython's ``display``: records the bundles, and takes a while for each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.bundles: list[dict[str, str]] = []

    def __call__(self, bundle: dict[str, str], **options: Any) -> Display:
        assert options["raw"]
        time.sleep(self._seconds)
        self.bundles.append(bundle)
        return self

    update = __call__


class Arriving:
    """Text that arrives in one-letter chunks."""

    def __init__(self, chunks: int, gap: float) -> None:
        self._chunks = chunks
        self._gap = gap
        self.text = ""

    def __iter__(self) -> Iterator[str]:
        for _ in range(self._chunks):
            time.sleep(self._gap)
            self.text += "a"
            yield "a"


def shown(monkeypatch: pytest.MonkeyPatch, answer: Arriving, seconds: float) -> list[str]:
    display = Display(seconds)
    monkeypatch.setattr(IPython.display, "display", display)
    show_arriving(answer)
    return [bundle["text/plain"] for bundle in display.bundles]


def test_an_answer_is_drawn_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings are ``DRAW_INTERVAL`` apart, however fast chunks arrive; the last is complete."""
    answer = Arriving(chunks=3000, gap=0)
    started = time.monotonic()
    texts = shown(monkeypatch, answer, seconds=0)
    assert len(texts) <= (time.monotonic() - started) / DRAW_INTERVAL + 2
    assert texts[-1] == answer.text


def test_an_answer_that_is_slow_to_draw_is_drawn_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drawings take at most ``MAX_DRAWING_SHARE`` of the time, except for the last one."""
    drawing = 0.1
    started = time.monotonic()
    texts = shown(monkeypatch, Arriving(chunks=100, gap=drawing / 2), seconds=drawing)
    assert len(texts) <= (time.monotonic() - started) / drawing * MAX_DRAWING_SHARE + 2
    assert texts[-1] == "a" * 100


def test_an_empty_answer_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is displayed before the first text arrives."""
    assert shown(monkeypatch, Arriving(chunks=0, gap=0), seconds=0) == []


def test_a_reply_is_shown_as_html() -> None:
    """A notebook shows a reply as rendered Markdown without the site's HTML."""
    assert Reply("<b>*hi*", 1, 1.0, 1.0)._repr_html_() == "<p>&lt;b&gt;<em>hi</em></p>\n"


def test_a_chat_is_shown_as_html(client_for: ClientFor) -> None:
    """A notebook shows each message of a chat below its role; open code ends with its message."""
    with FakeSite("```\nHello") as site:
        chat = client_for(site.url).chat("Be brief.")
        chat.send("Hi")
    assert chat._repr_html_() == (
        "<p><strong>system</strong></p>\n<p>Be brief.</p>\n"
        "<p><strong>user</strong></p>\n<p>Hi</p>\n"
        "<p><strong>assistant</strong></p>\n<pre><code>Hello</code></pre>\n"
    )


def test_an_empty_chat_has_no_html(client_for: ClientFor) -> None:
    """Without messages, a notebook falls back to the repr."""
    assert client_for(UNREACHABLE).chat()._repr_html_() is None


def test_a_very_long_answer_is_plain_text() -> None:
    """Beyond ``MAX_HTML_LENGTH`` an answer is not rendered, because that could take minutes."""
    assert Reply("a" * MAX_HTML_LENGTH, 1, 1.0, 1.0)._repr_html_() is not None
    assert Reply("a" * (MAX_HTML_LENGTH + 1), 1, 1.0, 1.0)._repr_html_() is None


def test_without_markdown_it_answers_are_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a Jupyter without the extra ``notebook`` there is no HTML, and no unsafe Markdown."""
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    monkeypatch.delitem(sys.modules, "aichatfree._output.safe_html", raising=False)
    assert Reply("*hi*", 1, 1.0, 1.0)._repr_html_() is None
    display = Display(seconds=0)
    monkeypatch.setattr(IPython.display, "display", display)
    show_arriving(Arriving(chunks=1, gap=0))
    assert display.bundles == [{"text/plain": "a"}]
