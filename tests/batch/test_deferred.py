"""When the rejected prompts of a batch are sent again."""

from __future__ import annotations

import pytest

from aichatfree._prompt_rejections import PromptRejections
from aichatfree.batch._deferred import MAX_CONSIDERED, DeferredItems
from aichatfree.batch._prompts import Item


class Needed:
    """How many more answers to others each deferred item needs; the same for all."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, rejections: PromptRejections) -> int:
        return self.answers


@pytest.fixture
def needed() -> Needed:
    return Needed()


@pytest.fixture
def deferred(needed: Needed) -> DeferredItems:
    return DeferredItems(needed)


def item(index: int) -> Item:
    return Item(index, str(index), "Hi")


def test_an_item_is_not_sent_before_its_time(deferred: DeferredItems) -> None:
    """An item that is deferred until a clock time is returned from then on, once."""
    first = item(0)
    deferred.add(first, until=10.0)
    assert deferred.next(9.9) is None
    assert deferred.next(10.0) is first
    assert deferred.next(10.0) is None


def test_an_item_waits_until_enough_others_were_answered(
    deferred: DeferredItems, needed: Needed
) -> None:
    """While answers to others are needed, an item whose time has come is not returned."""
    first = item(0)
    deferred.add(first, until=0.0)
    needed.answers = 1
    assert deferred.next(1.0) is None
    needed.answers = 0
    assert deferred.next(1.0) is first


def test_an_item_does_not_wait_for_others_if_there_are_none(
    deferred: DeferredItems, needed: Needed
) -> None:
    """If the batch has no other item to send, an item is returned as soon as its time has come."""
    first = item(0)
    deferred.add(first, until=1.0)
    needed.answers = 1
    assert deferred.next(0.0, has_others=False) is None
    assert deferred.next(1.0, has_others=False) is first


def test_every_item_gets_its_turn(needed: Needed) -> None:
    """Many items that need answers do not hide one that needs none."""
    wanted = item(3 * MAX_CONSIDERED)
    deferred = DeferredItems(lambda rejections: rejections is not wanted.rejections)
    for index in range(3 * MAX_CONSIDERED):
        deferred.add(item(index), until=0.0)
    deferred.add(wanted, until=0.0)
    found = [deferred.next(0.0) for _ in range(4)]
    assert found == [None, None, None, wanted]
