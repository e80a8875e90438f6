"""``llms.txt``, the list of all pages, and ``llms-full.txt``, their text, for language models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from repository_files import FILES, ROOT
from sphinx.application import Sphinx

SUMMARY = (
    "A blocking, thread-based Python SDK for the signed streaming chat protocol of AIChatFree and "
    "the open-source chat sites that speak it."
)


def write_files(app: Sphinx, exception: Exception | None) -> None:
    """Write both files into the root of the site."""
    if exception is not None or app.builder.format != "html":
        return
    names = pages(app)
    lines = [f"- [{title(app, name)}]({name}.html): {first_sentence(app, name)}" for name in names]
    index = f"# aichatfree\n\n> {SUMMARY}\n\n## Pages\n\n" + "\n".join(lines) + "\n"
    texts = "\n\n".join(text(app, name) for name in names)
    (app.outdir / "llms.txt").write_text(index, encoding="utf-8")
    (app.outdir / "llms-full.txt").write_text(texts, encoding="utf-8")


def pages(app: Sphinx) -> list[str]:
    """All pages but the index, in the order of the tables of contents."""
    toctree = app.env.toctree_includes
    return [name for name in toctree["index"] if name in app.env.found_docs]


def title(app: Sphinx, name: str) -> str:
    """The heading of a page."""
    return app.env.titles[name].astext()


def first_sentence(app: Sphinx, name: str) -> str:
    """What a page says first."""
    paragraph = next(iter(app.env.get_doctree(name).findall(nodes.paragraph)), None)
    words = " ".join(paragraph.astext().split()) if paragraph else title(app, name)
    return re.split(r"(?<=[.?!:]) ", words)[0]


def text(app: Sphinx, name: str) -> str:
    """The source of a page."""
    file = ROOT / FILES[name] if name in FILES else Path(app.env.doc2path(name))
    return file.read_text(encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True}
