"""Each page of docs/ says what it is about."""

from __future__ import annotations

import re

import pytest

from helpers import PAGES, blocks


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_a_page_begins_with_a_sentence_that_says_what_it_answers(page: str) -> None:
    """Below the title of a page there is a sentence, which llms.txt shows beside the title."""
    text = re.sub(r"<!--.*?-->\n", "", PAGES[page])
    title, _, rest = text.partition("\n")
    paragraph = " ".join(rest.strip().partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.?!])(?: |$)", paragraph)[0]
    assert title.startswith("# ")
    assert re.fullmatch(r"[A-Z`\[\"].{20,250}[.?!]", sentence), sentence[:80]


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_belongs_to_a_block(page: str) -> None:
    """The tests see every fenced block of a page: each fence opens or closes one."""
    fences = re.findall(r"^ *```", PAGES[page], re.MULTILINE)
    assert len(fences) == 2 * len(blocks(PAGES[page]))
