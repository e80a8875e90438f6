"""The picture of a terminal that the README shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from helpers import ROOT

PICTURE = (ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")


def test_the_picture_is_small() -> None:
    """The picture has less than 60 KB, because the README loads it."""
    assert len(PICTURE) < 60_000


def test_the_picture_loads_nothing() -> None:
    """The picture is valid XML, and names no font or image of another host."""
    ElementTree.fromstring(PICTURE)
    assert not re.search(r"(url\(|href=)['\"]?http|@import|@font-face", PICTURE)
