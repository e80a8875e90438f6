"""Which answer a request gets, and what is recorded of it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aichatfree.testing import Answer, FakeSite, Raw, Request
from helpers import signature

from .visitor import CLOSE, Visitor


def test_requests_take_the_items_of_the_script_in_order_and_the_last_repeats(
    visitor: Visitor,
) -> None:
    """Each prompt takes the next item of the script, and the last item repeats."""
    with FakeSite(["one", Answer("two")]) as site:
        assert [visitor.ask(site)[1] for _ in range(4)] == ["one", "two", "two", "two"]


def test_a_single_item_is_a_script(visitor: Visitor) -> None:
    """A script may be a single str, which is one answer and not an answer for each letter."""
    with FakeSite("Hello") as site:
        assert visitor.ask(site) == (200, "Hello")


def test_a_script_may_be_endless(visitor: Visitor) -> None:
    """A script is read one item at a time as requests arrive, so it may be endless."""
    with FakeSite(str(n) for n in itertools.count()) as site:
        assert [visitor.ask(site)[1] for _ in range(3)] == ["0", "1", "2"]


def test_a_callable_answers_from_the_request(visitor: Visitor) -> None:
    """A callable in the script is given the request and returns the answer."""
    with FakeSite(lambda request: request.text.upper()) as site:
        assert visitor.ask(site, "echo")[1] == "ECHO"


def test_requests_are_recorded_in_the_order_in_which_they_take_items(visitor: Visitor) -> None:
    """The n-th recorded prompt took the n-th item, also when prompts arrive simultaneously."""
    answers: dict[str, str] = {}

    def take(text: str) -> None:
        answers[text] = visitor.ask(site, text)[1]

    with FakeSite(str(n) for n in itertools.count()) as site:
        threads = [threading.Thread(target=take, args=(f"prompt {n}",)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answers[request.text] for request in site.requests] == [str(n) for n in range(20)]


# --- errors in the script ---------------------------------------------------------------------


def test_an_error_in_a_callable_is_a_500_and_is_raised_at_the_end(visitor: Visitor) -> None:
    """An exception in a callable is a 500 for the client and is raised at the end of the block."""

    def fail(request: Request) -> str:
        raise KeyError("broken script")

    with pytest.raises(KeyError, match="broken script"), FakeSite(fail) as site:
        answer = visitor.ask(site)
    assert answer == (500, "FakeSite's script failed: KeyError('broken script')")


def test_an_error_in_a_stream_cuts_off_the_answer_and_is_raised_at_the_end(
    visitor: Visitor,
) -> None:
    """An exception in a stream cuts off the answer and is raised at the end of the block."""

    def fail() -> Iterator[str]:
        yield "Hel"
        raise OSError("broken stream")

    answer = Answer(stream=fail(), headers=CLOSE)
    with pytest.raises(OSError, match="broken stream"), FakeSite(answer) as site:
        assert visitor.body_as_sent(site) == b"3\r\nHel\r\n"


def test_an_error_of_the_block_takes_precedence_over_one_of_the_script(visitor: Visitor) -> None:
    """If the block itself raises, that exception is raised and not the script's."""
    with pytest.raises(AssertionError), FakeSite(lambda request: [][0]) as site:
        assert visitor.ask(site) == (200, "Hello")


def test_an_item_of_another_type_is_reported(visitor: Visitor) -> None:
    """An item that is not a str, Answer or Raw is a TypeError at the end of the block."""
    with pytest.raises(TypeError, match="42"), FakeSite(lambda _: 42) as site:  # type: ignore
        visitor.ask(site)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Answer(framing="gzip"), "framing must be one of"),  # type: ignore[arg-type]
        (lambda: Answer(end="boom"), "end must be one of"),  # type: ignore[arg-type]
        (lambda: Answer(gap=-1), "gap must be at least 0"),
        (lambda: Answer(delay=-1), "delay must be at least 0"),
        (lambda: Answer(split=0), "split must be at least 1"),
        (lambda: Answer(status=100), "status must be from 200"),
        (lambda: Answer("a", body="b"), "the body once"),
        (lambda: Answer("a", stream=["b"]), "the body once"),
        (lambda: Answer(stream=["b"], framing="length"), "length is unknown"),
        (lambda: Raw(end="tail"), "end must be one of"),  # type: ignore[arg-type]
        (lambda: Raw(gap=-1), "gap must be at least 0"),
        (lambda: FakeSite([]), "script is empty"),
        (lambda: FakeSite(idle_timeout=0), "idle_timeout must be at least 0"),
    ],
)
def test_a_bad_argument_is_rejected_immediately(make: Callable[[], object], words: str) -> None:
    """A bad argument is a ValueError of the constructor, and the message names the argument."""
    with pytest.raises(ValueError, match=words):
        make()


# --- the record -------------------------------------------------------------------------------


def test_a_request_is_recorded_completely(visitor: Visitor) -> None:
    """A recorded request has its method, path, headers, body, text, time and connection."""
    before = time.monotonic()
    with FakeSite() as site:
        connection = visitor.connect(site)
        connection.request("POST", "/api/generate", b"not json", {"X-Name": "value"})
        connection.getresponse().read()
        visitor.post(connection, "Hi").read()
        visitor.ask(site, "Hi")
    first, second, third = site.requests
    assert (first.method, first.path, first.version) == ("POST", "/api/generate", "HTTP/1.1")
    assert first.headers["x-NAME"] == "value"
    assert (first.body, first.json, first.text) == (b"not json", None, "")
    assert second.json["messages"][0]["role"] == "user"
    assert before < first.received < second.received < time.monotonic()
    assert first.connection == second.connection != third.connection


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"parts": [{"text": "a"}, {"text": "b"}]}, "ab"),
        ({"content": "c"}, "c"),
        ({"parts": [{}]}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_text_of_a_request_is_that_of_the_last_message(
    visitor: Visitor, message: Any, text: str
) -> None:
    """A request's text is that of its last message, in either dialect, and "" if it has none."""
    with FakeSite() as site:
        visitor.ask(site, messages=[{"content": "earlier"}, message])
    assert site.requests[0].text == text


def test_a_chunked_request_is_read(visitor: Visitor) -> None:
    """The body of a request may be sent with chunked framing."""
    with FakeSite() as site:
        connection = visitor.connect(site)
        connection.request("POST", "/api/generate", iter([b"[1,", b" 2]"]))
        connection.getresponse().read()
    assert site.requests[0].json == [1, 2]


def test_recording_can_be_switched_off(visitor: Visitor) -> None:
    """With record=False a site answers as usual and keeps no request."""
    with FakeSite(record=False) as site:
        assert visitor.ask(site) == (200, "Hello")
    assert site.requests == []


# --- answers that do not come from the script -------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type"),
    [
        ("GET", "/", 200, "text/html"),
        ("POST", "/", 200, "text/html"),
        ("GET", "/api/generate", 404, "text/plain; charset=utf-8"),
        ("POST", "/elsewhere", 404, "text/plain; charset=utf-8"),
    ],
)
def test_other_paths_take_no_item(
    visitor: Visitor, method: str, path: str, status: int, content_type: str
) -> None:
    """The root is a web page and unknown paths are a 404; neither takes an item of the script."""
    with FakeSite(["first", "second"]) as site:
        connection = visitor.connect(site)
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (status, content_type)
        response.read()
        assert visitor.ask(site)[1] == "first"


@pytest.mark.parametrize(
    ("password", "sent", "code"), [("p", "p", 0), ("p", "q", -1), ("p", None, -1), (None, "q", 0)]
)
def test_auth_says_whether_the_password_is_right(
    visitor: Visitor, password: str | None, sent: str | None, code: int
) -> None:
    """/api/auth answers code 0 for the right password and code -1 for a wrong one."""
    with FakeSite(password=password) as site:
        connection = visitor.connect(site)
        connection.request("POST", "/api/auth", json.dumps({"pass": sent}))
        assert json.load(connection.getresponse()) == {"code": code}


def signed(text: str, moment: object, **fields: Any) -> dict[str, Any]:
    return {"time": moment, "pass": "p", "sign": signature(moment, text, "s"), **fields}


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        (signed("Hi", 1700000000000), 200, "Hello"),
        (signed("Hi", 1700000000000, time=1), 401, "signature"),
        (signed("Hi", 1700000000000, sign=None), 401, "signature"),
        (signed("Hi", 1700000000000, **{"pass": "q", "sign": ""}), 401, "password"),
        (signed("Hi", 1700000000000.0), 401, "signature"),
        (signed("Hi", 1700000000123456789), 401, "signature"),
    ],
    ids=["right", "other-time", "unsigned", "password-first", "float-time", "nanoseconds"],
)
def test_verify_rejects_what_a_real_site_rejects(
    visitor: Visitor, fields: dict[str, Any], status: int, word: str
) -> None:
    """With verify=True the password is checked before the signature, as by real sites."""
    with FakeSite(secret="s", password="p", verify=True) as site:
        answer = visitor.ask(site, "Hi", **fields)
    assert answer[0] == status
    assert word in answer[1]


def test_a_lone_surrogate_is_signed_as_the_replacement_character(visitor: Visitor) -> None:
    """A lone surrogate counts as U+FFFD in the signature and in an answer that repeats it."""
    with FakeSite(lambda request: request.text, secret="s", verify=True) as site:
        assert visitor.ask(site, "a\ud800", **signed("a\ufffd", 1)) == (200, "a\ufffd")


def test_verify_answers_an_unreadable_body_with_an_empty_500(visitor: Visitor) -> None:
    """With verify=True a body that is not a JSON object is answered with an empty 500."""
    with FakeSite(verify=True) as site:
        connection = visitor.connect(site)
        connection.request("POST", "/api/generate", b"[1, 2]")
        response = connection.getresponse()
        assert (response.status, response.read()) == (500, b"")


def test_a_site_that_verifies_nothing_answers_a_wrong_password(visitor: Visitor) -> None:
    """Without verify=True a prompt is answered from the script whatever its password is."""
    with FakeSite(password="p") as site:
        assert visitor.ask(site, **{"pass": "q"}) == (200, "Hello")
