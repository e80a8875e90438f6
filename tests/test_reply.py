"""``Reply``: text with figures."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from aichatfree import Reply
from aichatfree.testing import FakeSite
from helpers import ClientFor, echo

REPLY = Reply("The Nile.", 2, 2.0, 1.25, reasoning="It is long.")


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_the_attributes(make: Callable[[Reply], Reply]) -> None:
    """A copy of a reply is a reply with the same text and figures."""
    same = make(REPLY)
    assert (type(same), str.__str__(same), vars(same)) == (Reply, "The Nile.", vars(REPLY))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_reply_keeps_the_attributes(protocol: int) -> None:
    """A reply that is pickled, with any protocol, has the same text and figures afterwards."""
    same = pickle.loads(pickle.dumps(REPLY, protocol))
    assert (type(same), str.__str__(same), vars(same)) == (Reply, "The Nile.", vars(REPLY))


def test_a_reply_comes_back_from_another_process() -> None:
    """A reply keeps its text and figures on its way to another process and back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        same = pool.submit(copy.copy, REPLY).result()
    assert (type(same), vars(same)) == (Reply, vars(REPLY))


def test_a_reply_is_text() -> None:
    """A reply can be added, formatted, changed and written as JSON, which gives plain str."""
    made = ["River: " + REPLY, REPLY + "!", f"{REPLY}", str(REPLY), REPLY.upper(), REPLY.text]
    assert made == [
        *("River: The Nile.", "The Nile.!", "The Nile.", "The Nile.", "THE NILE.", "The Nile."),
    ]
    assert {type(text) for text in made} == {str}
    assert json.dumps({"answer": REPLY}) == '{"answer": "The Nile."}'


def test_a_reply_is_a_prompt(client_for: ClientFor) -> None:
    """An answer can be the next question as it is, alone and in a list of messages."""
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        reply = client.generate(client.generate("Hi"))
        assert reply == "echo echo Hi"
        assert client.generate([{"role": "user", "content": reply}]) == "echo echo echo Hi"


def test_replies_are_equal_if_their_texts_are() -> None:
    """A reply equals its text and every reply with it, and has the hash of its text."""
    other = Reply("The Nile.", 1, 0.5, 0.5)
    assert other == REPLY == "The Nile."
    assert {REPLY} == {"The Nile."}
    assert Reply("The Don.", 1, 0.5, 0.5) < REPLY


@pytest.mark.parametrize("name", ["text", "attempts", "note"])
def test_a_reply_cannot_be_changed(name: str) -> None:
    """No attribute of a reply can be set."""
    with pytest.raises(AttributeError):
        setattr(REPLY, name, "b")


def test_the_repr_of_a_reply_shows_its_figures() -> None:
    """The repr shows the text and the figures, with times in milliseconds at most."""
    assert repr(Reply("Hi", 1, 2.00049, 1.25)) == (
        "Reply('Hi', attempts=1, elapsed=2.0, time_to_first_chunk=1.25)"
    )
    assert repr(REPLY).endswith("time_to_first_chunk=1.25, reasoning='It is long.')")
