"""Markdown as HTML: nothing that a site sends can act in the browser."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree._output.notebook_display import MAX_HTML_LENGTH
from aichatfree._output.safe_html import markdown_to_html

PLAIN_TAGS = (
    *("p", "span", "br", "hr", "em", "strong", "s", "blockquote", "pre", "ul", "li"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr"),
)
ALIGNMENT = {"style": "text-align:(left|center|right)"}

#: The tags that may occur, with the attributes that each may have and a pattern for their values.
TAGS: dict[str, dict[str, str]] = {
    **{tag: {} for tag in PLAIN_TAGS},
    "a": {"href": r"(?i:https?://|mailto:).*", "title": ".*"},
    "code": {"class": r"language-\S*"},
    "ol": {"start": r"\d+"},
    "th": ALIGNMENT,
    "td": ALIGNMENT,
}

FRAGMENTS = [
    *(
        "<script>",
        "</script>",
        "<img src=x onerror=",
        "<svg/onload=",
        "<!--",
        "-->",
        "<?",
        "<![CDATA[",
    ),
    *(
        '"',
        "'",
        "=",
        "onclick=",
        "style=",
        "</p>",
        "</code></pre>",
        "<b>",
        "<https://x>",
        "<a@b.c>",
    ),
    *("javascript", "java\tscript", "data:text/html,", "vbscript:", ":", "\\:", "&#58;", "&colon;"),
    *("&lt;script&gt;", "&#x3c;", "https://x", "mailto:a@b", "//x", "/lab"),
    *("[a](", "[a]: ", "[a][a]", "![", "[", "](", "]", ")", " 'title')", ' "title")', "(<", ">)"),
    *("$", "$$", "\\(", "\\)", "\\[", "\\]", "\\href{", "}", "{", "\\begin{a}", "\\end{a}", "\\"),
    *("`", "``", "```", '```html "x"\n', "~~~", "~~", "*", "**", "_", "#", "# ", "=", "---", "|"),
    *("\n|-|:-:|\n", "\n", "\n\n", "    ", "\t", "   ```\n", "> ", "- ", "7. ", "word", " "),
    *("\x1b", "\x00", "\u202e", "\r", "\ufffd"),
    # Complete constructs, which are rarely put together by chance.
    *("[a](javascript:b)", "[a](/lab)", "<file:x>", "[a]: data:b\n", "[a]", "![a](https://x)"),
    *(r"$\href{x}{y}$", r"\\(\href{x}{y}\\)", r"\$\href{x}{y}\$", "&#36;\\\\href{x}{y}&#36;"),
]


class Elements(HTMLParser):
    """Checks each tag of some HTML, and collects the texts between them, except for code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        allowed = TAGS[tag]
        for name, value in attrs:
            assert re.fullmatch(allowed[name], value or "", re.DOTALL), (tag, name, value)
        if tag == "br":
            self.handle_data("\n")  # as MathJax reads it
        else:
            self.text.append("")
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text.append("")

    def handle_data(self, data: str) -> None:
        if "code" not in self.open:
            self.text[-1:] = ["".join(self.text[-1:]) + data]

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment  # type: ignore[assignment]


def hostile_texts() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=40).map("".join)


many_examples = settings(max_examples=300, deadline=None)


@many_examples
@given(hostile_texts())
def test_no_text_produces_other_tags_or_attributes_than_the_renderer_writes(text: str) -> None:
    """Whatever the text, the HTML has only tags and attributes without scripts and images.

    They are closed in the right order, and links lead to web and mail addresses only.
    """
    assert Elements(markdown_to_html(text)).open == []


@many_examples
@given(hostile_texts())
def test_no_text_makes_mathjax_create_a_link(text: str) -> None:
    r"""MathJax looks for formulas between tags, and there is none with ``\href``."""
    for words in Elements(markdown_to_html(text)).text:
        if "\\href" in words:
            assert not re.search(r"\$|\\\(|\\\[|\\begin", words)


@many_examples
@given(hostile_texts())
def test_no_control_character_is_left(text: str) -> None:
    """Control characters, and those that reorder the text around them, are not in the HTML."""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", markdown_to_html(text))


RENDERED = {
    "emphasis": ("2 > 1, R&D and *more*", "<p>2 &gt; 1, R&amp;D and <em>more</em></p>"),
    "a tag": ("<b>", "<p>&lt;b&gt;</p>"),
    "an entity": ("&copy; &lt;b&gt;", "<p>© &lt;b&gt;</p>"),
    "a web link": (
        '[a](https://b.example/?c=1&d=2 "t")',
        '<p><a href="https://b.example/?c=1&amp;d=2" title="t">a</a></p>',
    ),
    "a mail link": ("<a@b.example>", '<p><a href="mailto:a@b.example">a@b.example</a></p>'),
    "a script link": ("[a](JavaScript:b)", "<p>[a](JavaScript:b)</p>"),
    "a link into the notebook server": ("[a](/api/kernels)", "<p>[a](/api/kernels)</p>"),
    "a URL that is not a link": ("https://b.example", "<p>https://b.example</p>"),
    "an image": ("![a *b*](https://c.example)", "<p>a b (https://c.example)</p>"),
    "code": ("`a<b_c`", "<p><code>a&lt;b_c</code></p>"),
    "a block of code": (
        "```c\nx<y;\n```",
        '<pre><code class="language-c">x&lt;y;\n</code></pre>',
    ),
    "a block of code that is still arriving": ("~~~\nx\n", "<pre><code>x\n</code></pre>"),
    "a block in a list": (
        "- a\n  ```\n  x\n    y\n  ```",
        "<ul>\n<li>a<pre><code>x\n  y\n</code></pre>\n</li>\n</ul>",
    ),
    "a table": (
        "|a|\n|:-|\n|b|",
        '<table>\n<thead>\n<tr>\n<th style="text-align:left">a</th>\n</tr>\n</thead>\n<tbody>\n'
        '<tr>\n<td style="text-align:left">b</td>\n</tr>\n</tbody>\n</table>',
    ),
    "lines of a poem": ("one\ntwo\n\nthree", "<p>one<br>\ntwo</p>\n<p>three</p>"),
}


@pytest.mark.parametrize("what", RENDERED)
def test_markdown_is_rendered(what: str) -> None:
    """Markdown keeps its meaning, except that images, other links and raw HTML become text."""
    text, html = RENDERED[what]
    assert markdown_to_html(text).rstrip("\n") == html


FORMULAS = {
    "dollars": ("a $x_{1}*y*_{2} < z$ b", "<p>a <span>$x_{1}*y*_{2} &lt; z$</span> b</p>"),
    "two dollars": ("a $$x_1$$", "<p>a <span>$$x_1$$</span></p>"),
    "parentheses": (r"a \(x_1\)", r"<p>a <span>\(x_1\)</span></p>"),
    "brackets": (r"a \[ x \] b", r"<p>a <span>\[ x \]</span> b</p>"),
    "several lines": (
        "a\n$$\n- x\n=\n\n+ y\n$$\nb",
        "<p>a</p>\n<p>$$\n- x\n=\n\n+ y\n$$</p><p>b</p>",
    ),
    "an environment": (
        "\\begin{align}\nx \\\\\n+ y\n\\end{align}",
        "<p>\\begin{align}\nx \\\\\n+ y\n\\end{align}</p>",
    ),
    "in a quotation": ("> $$\n> x\n> $$", "<blockquote>\n<p>$$\nx\n$$</p></blockquote>"),
    "in code": ("`$x$`", "<p><code>$x$</code></p>"),
    "in indented code": ("    $$x$$", "<pre><code>$$x$$\n</code></pre>"),
    "with a link": (r"$\href{javascript:x}{y}$", r"<p><code>$\href{javascript:x}{y}$</code></p>"),
    "beyond its list": ("- $$\n\nx $$", "<ul>\n<li><span>$</span><span>$</span></li>\n</ul>\n"
                        "<p>x <span>$</span><span>$</span></p>"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORMULAS)
def test_formulas_are_left_to_mathjax(what: str) -> None:
    """A LaTeX formula stays as it is, in an element that has no other text."""
    text, html = FORMULAS[what]
    assert markdown_to_html(text).rstrip("\n") == html


def test_prices_are_not_a_formula() -> None:
    """A dollar that does not belong to a formula gets its own element, so MathJax ignores it."""
    html = markdown_to_html("It costs $5 and then $6.")
    assert html == "<p>It costs <span>$</span>5 and then <span>$</span>6.</p>\n"


#: Seconds for the longest text that is rendered. The slowest takes 7 on an idle machine.
RENDERING_LIMIT = 60.0


@pytest.mark.parametrize("part", ["![", "[<", "\\[\n", "\\begin{a}", "*a_ ", "`", "> ", "~~~\n"])
def test_rendering_time_is_bounded(part: str) -> None:
    """Hostile text of the greatest length that is rendered takes seconds, not minutes."""
    text = part * (MAX_HTML_LENGTH // len(part))
    started = time.monotonic()
    markdown_to_html(text)
    assert time.monotonic() - started < RENDERING_LIMIT
