"""``llms.txt``, the list of all pages, and ``llms-full.txt``, their text, for language models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from repository_files import FILES, ROOT
from sphinx import addnodes
from sphinx.application import Sphinx

SUMMARY = (
    "A blocking, thread-based Python SDK for the signed streaming chat protocol of AIChatFree and "
    "the open-source chat sites that speak it."
)


def write_files(app: Sphinx, exception: Exception | None) -> None:
    """Write both files into the root of the site."""
    if exception is not None or app.builder.format != "html":
        return
    parts = [f"# aichatfree\n\n> {SUMMARY}\n"]
    texts = []
    for tree in app.env.get_doctree("index").findall(addnodes.toctree):
        parts.append(f"\n## {tree['caption']}\n\n")
        for _, name in tree["entries"]:
            parts.append(f"- [{title(app, name)}]({name}.html): {first_sentence(app, name)}\n")
            texts.append(text(app, name))
    (app.outdir / "llms.txt").write_text("".join(parts), encoding="utf-8")
    (app.outdir / "llms-full.txt").write_text("\n".join(texts), encoding="utf-8")


def title(app: Sphinx, name: str) -> str:
    """The heading of a page."""
    return str(app.env.titles[name].astext())


def first_sentence(app: Sphinx, name: str) -> str:
    """The first sentence below a page's title; a test checks that there is one."""
    page = Path(app.env.doc2path(name)).read_text(encoding="utf-8")
    page = re.sub(r"<!--.*?-->", "", page)
    paragraph = " ".join(page.partition("\n")[2].strip().partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.?!]) ", paragraph)[0]
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", sentence)


def text(app: Sphinx, name: str) -> str:
    """The source of a page."""
    file = ROOT / FILES[name] if name in FILES else Path(app.env.doc2path(name))
    return file.read_text(encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True}
