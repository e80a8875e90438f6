from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from .visitor import Visitor


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with closing(Visitor()) as visitor:
        yield visitor
