"""What may be shown as Markdown: text that a site sent must not act in the reader's browser.

Markdown may hold HTML, and JupyterLab trusts what a cell has just shown: scripts in it run, with
the rights of whoever is logged in. So nothing is left of the text that could become a tag, an
attribute, a link that is a script, or an image, which a browser fetches unasked. That holds
however the text is read: what is code and what is a formula is only recognised so that it looks
right.
"""

from __future__ import annotations

import re

from .terminal import without_control

# A block of code without its end is still arriving. Bounds keep hostile text from taking for ever.
_PIECES = re.compile(
    r"""
    ^(?P<indent>[ \t>]*)(?P<fence>`{3,}(?!`)|~{3,}(?!~))[^`\n]*\n
        (?P<block>.*?)(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)
    |(?<!`)(?P<ticks>`+)(?!`)(?P<code>[^\n]{1,1000}?)(?<!`)(?P=ticks)(?!`)
    |\$\$(?P<display>.{1,1000}?)\$\$|\\\[(?P<display2>(?:(?!\\\[).){1,1000}?)\\\]
    |\$(?P<inline>[^$\n]{1,1000})\$|\\\((?P<inline2>(?:(?!\\\().){1,1000}?)\\\)
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_JOINER = "\u2060"
"""Takes no room, and is no part of any markup."""
_ENTITY = re.compile(r"&(?=#|\w+;)")
_LINE_END = re.compile(r"(?:(?<=\S)|\A)\n(?=\S|\Z)")  # Markdown would make one paragraph of a poem
_GAP = r"\s*"  # browsers overlook tabs and line ends within a URL's scheme
_SCRIPT = re.compile(f"({_GAP.join('javascript')})(?={_GAP}[\\\\]*:)", re.IGNORECASE)


def harmless(text: str) -> str:
    """The text as Markdown that looks as it was meant to, and does nothing else."""
    text = without_control(text)
    parts, end = [], 0
    for piece in _PIECES.finditer(text):
        parts += [_prose(text[end : piece.start()]), _code_or_formula(piece)]
        end = piece.end()
    return "".join([*parts, _prose(text[end:])])


def _code_or_formula(piece: re.Match[str]) -> str:
    if piece["fence"]:
        # The last line must be as indented as the others, or a list would end before it.
        block = piece["block"].removeprefix(piece["indent"]).rstrip("\n")
        return f"{piece['indent']}<pre><code>{_code(block)}</code></pre>"
    if piece["ticks"]:
        return f"<code>{_code(piece['code'])}</code>"
    # In a formula an entity would show as it is written, so it gets TeX's own words. Dollars are
    # what Jupyter knows one by.
    dollars = "$$" if (piece.lastgroup or "").startswith("display") else "$"
    formula = piece.group(piece.lastgroup or 0).strip().replace("<", r"\lt ").replace('"', "''")
    return f"{dollars}{_inert(formula)}{dollars}"


def _code(text: str) -> str:
    """Nothing in it is markup any more, but a ``>`` that may belong to a quotation around it."""
    return re.sub(r"[^\w\s>]|_", lambda found: f"&#{ord(found[0])};", text)


def _prose(text: str) -> str:
    text = _inert(text).replace("<", "&lt;").replace('"', "&quot;")
    return _LINE_END.sub("  \n", text)


def _inert(text: str) -> str:
    # The joiner, because some renderers decode entities in a link twice.
    text = _ENTITY.sub(f"&amp;{_JOINER}", text).replace("![", f"!{_JOINER}[")
    return _SCRIPT.sub(rf"\1{_JOINER}", text)
