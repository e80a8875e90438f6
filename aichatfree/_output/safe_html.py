"""Markdown as HTML that is safe to show in a notebook, whatever a site sent.

JupyterLab trusts the output of a cell that was just run: a script in it has the rights of the user
who is logged in. So the text of an answer is always escaped. All tags and attributes in the result
are written by the renderer, links lead to web and mail addresses only, and there are no images,
because a browser would fetch them without being asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from .terminal import strip_control_characters

_LINK = re.compile(r"https?://|mailto:", re.IGNORECASE)

# The limits on the length keep the time to search a hostile text for formulas proportional to it.
_DISPLAY = r"\$\$.{1,2000}?\$\$|\\\[.{1,2000}?\\\]|\\begin\{(\w{1,20}\*?)\}.{1,2000}?\\end\{\1\}"
_INLINE = r"\$(?![\s$])[^$\n]{1,1000}?(?<![\s\\])\$(?!\d)|\\\(.{1,1000}?\\\)"
_DISPLAY_FORMULA = re.compile(_DISPLAY, re.DOTALL)
_FORMULA = re.compile(f"{_DISPLAY}|{_INLINE}", re.DOTALL)
_BEGINS_FORMULA = re.compile(r"[$\\]")


def markdown_to_html(text: str) -> str:
    """Render Markdown with tables, line breaks as written, and LaTeX formulas left to MathJax."""
    html: str = _parser().render(strip_control_characters(text))
    return html


@cache
def _parser() -> MarkdownIt:
    parser = _SafeMarkdown("js-default", {"html": False, "breaks": True})
    parser.block.ruler.before(
        "fence",
        "formula",
        _display_formula,
        {"alt": ["paragraph", "reference", "blockquote", "list"]},  # it ends these
    )
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.add_render_rule("text", _render_text)
    parser.add_render_rule("image", _render_image)
    parser.add_render_rule("formula", _render_formula)
    return parser


class _SafeMarkdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802
        return _LINK.match(url) is not None


def _formula(state: StateInline, silent: bool) -> bool:
    """Parse a formula within a line, so that ``_`` and ``*`` in it are not taken for Markdown."""
    found = _FORMULA.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("formula", "span", 0).content = found[0]
    state.pos = found.end()
    return True


def _display_formula(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Parse a formula that has its own lines; ``- b`` or ``=`` would be a list or a heading."""
    first = state.bMarks[start] + state.tShift[start]
    found = _DISPLAY_FORMULA.match(state.src, first, state.eMarks[end - 1])
    if found is None or state.is_code_block(start):
        return False
    last = next(line for line in range(start, end) if state.eMarks[line] >= found.end())
    inside = all(
        state.isEmpty(line) or state.sCount[line] >= state.blkIndent
        for line in range(start, last + 1)
    )
    if not inside or state.src[found.end() : state.eMarks[last]].strip():
        return False
    if not silent:
        content = state.getLines(start, last + 1, state.blkIndent, False)
        state.push("formula", "p", 0).content = content.strip()
        state.line = last + 1
    return True


def _escape(text: str) -> str:
    """Escape text; MathJax, which never looks beyond an element, finds no formula in the result."""
    return _BEGINS_FORMULA.sub(r"<span>\g<0></span>", escapeHtml(text))


def _render_text(renderer: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:
    return _escape(tokens[at].content)


def _render_image(
    renderer: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType
) -> str:
    description = renderer.renderInlineAsText(tokens[at].children or [], options, env)
    return _escape(f"{description} ({tokens[at].attrs['src']})")


def _render_formula(renderer: RendererHTML, tokens: Sequence[Token], at: int, *_: Any) -> str:
    """Leave a formula to MathJax, except for one with a link, which is shown as its source."""
    source = escapeHtml(tokens[at].content)
    tag = "code" if r"\href" in source else tokens[at].tag
    return f"<{tag}>{source}</{tag}>"
