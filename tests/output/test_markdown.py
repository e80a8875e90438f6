from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree import Reply
from aichatfree._output.markdown import harmless
from aichatfree.testing import FakeSite
from helpers import ClientFor

FRAGMENTS = [
    *(
        "<script>",
        "<img src=x onerror=",
        '"',
        "'",
        "javascript",
        "java\tscript",
        ":",
        "\\:",
        "&#58;",
    ),
    *("&colon;", "&#x3a", "[a](", "[a]: ", "![", "](", ")", "$", "$$", "\\(", "\\)", "\\[", "\\]"),
    *("`", "``", "```", "```html\n", "~~~", "\n", "\n\n", "    ", "   ```\n", "> ", "- ", "@@0@@"),
    *("</pre>", "</code>", "<!--", "-->", "\x1b", "word", "<javascript:", "x", " "),
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_nothing_is_left_that_could_act(text: str) -> None:
    """However it is read: no tag or entity but ours, no end of an attribute, no script or image."""
    shown = harmless(text)
    rest = re.sub(r"</?(?:pre|code)>", "", shown)
    assert "<" not in rest
    assert '"' not in rest
    assert "![" not in rest
    assert "\x1b" not in rest
    entities = re.findall(r"&(?=#|\w+;)#?\w*;?", rest)
    assert all(re.fullmatch(r"&(lt|quot|amp|#\d+);", entity) for entity in entities)
    assert not re.search(r"\s*".join("javascript") + r"[\s\\]*:", rest, re.IGNORECASE)


LOOKS = {
    "prose": ("2 > 1, R&D and *more*", "2 > 1, R&D and *more*"),
    "a tag": ("<b>", "&lt;b>"),
    "an entity": ("&copy; &#58;", "&amp;\u2060copy; &amp;\u2060#58;"),
    "quotes": ('say "hi"', "say &quot;hi&quot;"),
    "a link": ("[a](https://b.example/?c=1&d=2)", "[a](https://b.example/?c=1&d=2)"),
    "an image": ("![a](b)", "!\u2060[a](b)"),
    "a script": ("[a](JavaScript:b)", "[a](JavaScript\u2060:b)"),
    "a script in a formula": ("$\\href{java\tscript:b}c$", "$\\href{java\tscript\u2060:b}c$"),
    "code": ("`a<b_c`", "<code>a&#60;b&#95;c</code>"),
    "a tick in code": ("``a ` b``", "<code>a &#96; b</code>"),
    "a block": ("```c\nx<y;\n```\n\nend", "<pre><code>x&#60;y&#59;</code></pre>\n\nend"),
    "a block that still arrives": ("~~~\nx\n", "<pre><code>x</code></pre>"),
    "a block in a list": (
        "- a\n  ```\n  x\n    y\n  ```\n",
        "- a  \n  <pre><code>x\n    y</code></pre>  \n",
    ),
    "a block in a quotation": ("> ```\n> x\n> ```", "> <pre><code>x</code></pre>"),
    "a formula": ("$a<b$ and $$a<b$$", "$a\\lt b$ and $$a\\lt b$$"),
    "quotes in a formula": (r'$\text{"a"}$', r"$\text{''a''}$"),
    "a formula in brackets": (r"\( a<b \) and \[ c \]", r"$a\lt b$ and $$c$$"),
    "lines of a poem": ("one\ntwo\n\nthree", "one  \ntwo\n\nthree"),
}


@pytest.mark.parametrize("what", LOOKS)
def test_it_looks_as_it_was_meant_to(what: str) -> None:
    """What Markdown means is kept, but for what could act."""
    text, shown = LOOKS[what]
    assert harmless(text) == shown


def test_a_reply_and_a_chat_show_as_harmless_markdown(client_for: ClientFor) -> None:
    """A notebook shows the answer, and a chat as turns under the roles that spoke."""
    with FakeSite("<b>Hello") as site:
        chat = client_for(site.url).chat("Be brief.")
        assert chat.send("Hi")._repr_markdown_() == "&lt;b>Hello"
        assert chat._repr_markdown_() == (
            "**system**\n\nBe brief.\n\n**user**\n\nHi\n\n**assistant**\n\n&lt;b>Hello"
        )


def test_an_empty_chat_shows_as_what_it_is(client_for: ClientFor) -> None:
    """Without a turn there is nothing to render, so a notebook falls back on the repr."""
    assert client_for("http://127.0.0.1:1").chat()._repr_markdown_() is None
    assert Reply("*hi*", 1, 1.0, 1.0)._repr_markdown_() == "*hi*"


@pytest.mark.parametrize("run", ["~", "`", "$", "\\[", "\\(", "![", "&#", "> ", "~~~x", "~~~\n"])
def test_no_text_takes_for_ever(run: str) -> None:
    """Half a megabyte of anything is made harmless in seconds, not in hours."""
    began = time.monotonic()
    harmless(run * (500_000 // len(run)))
    assert time.monotonic() - began < 30
