"""Pages that are files of the repository, such as its changelog.

The page's own file has only a link, for those who read it on a code host. For them, too, other
pages link to the file itself, ``../CHANGELOG.md``; on the site such a link leads to the page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
FILES = {
    "architecture": "ARCHITECTURE.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
}
PAGES = {file: f"{page}.md" for page, file in FILES.items()}


def read_file(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the text of such a page, and the links of other pages to its file."""
    if docname in FILES:
        app.env.note_dependency(ROOT / FILES[docname])
        source[0] = as_page((ROOT / FILES[docname]).read_text(encoding="utf-8"))
    else:
        links = r"(?<=\]\()\.\./(\w+\.md)\b"
        source[0] = re.sub(links, lambda link: PAGES.get(link[1], link[0]), source[0])


def as_page(text: str) -> str:
    """The text with links that lead to the same places from ``docs/``."""
    return re.sub(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)", lambda link: _from_docs(link[1]), text)


def _from_docs(target: str) -> str:
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return PAGES.get(target, f"path:../{target}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", read_file)
    return {"parallel_read_safe": True}
