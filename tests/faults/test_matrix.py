"""Every fault of ``cases.py``, as it appears to the caller of each method that sends a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

import aichatfree
from aichatfree import AIChatFreeError, APIError, Client, Timeout
from helpers import FAST

from .case import FAULT, WELL, Case
from .cases import CASES

ATTEMPTS = 2


@dataclass
class Seen:
    """What a caller received: the text, and the error if there was one."""

    text: str
    error: Exception | None = None

    @property
    def kind(self) -> str | None:
        return None if self.error is None else type(self.error).__name__


def by_generate(client: Client) -> Seen:
    try:
        return Seen(client.generate(FAULT).text)
    except APIError as error:
        return Seen(error.partial_text, error)


def by_stream(client: Client) -> Seen:
    chunks: list[str] = []
    with client.stream(FAULT) as stream:
        try:
            chunks.extend(stream)
        except APIError as error:
            seen = Seen(error.partial_text, error)
        else:
            seen = Seen("".join(chunks))
    assert stream.complete is (seen.error is None)
    assert stream.text == "".join(chunks) == seen.text
    return seen


def by_chat(client: Client) -> Seen:
    chat = client.chat()
    try:
        reply = chat.send(FAULT)
    except APIError as error:
        assert chat.messages == []
        return Seen(error.partial_text, error)
    assert [message["content"] for message in chat.messages] == [FAULT, reply.text]
    return Seen(reply.text)


def by_batch(client: Client) -> Seen:
    with client.batch([FAULT], max_workers=1) as batch:
        result = next(batch)
    assert result.ok is (result.error is None)
    if result.error is None:
        return Seen(result.text or "")
    assert isinstance(result.error, APIError)
    return Seen(result.error.partial_text, result.error)


CALLERS: dict[str, Callable[[Client], Seen]] = {
    "generate": by_generate,
    "stream": by_stream,
    "chat": by_chat,
    "batch": by_batch,
}


def client_of(case: Case, url: str, proxy: str | None) -> Client:
    settings = dict(case.settings)
    return Client(
        url,
        timeout=replace(Timeout(connect=5, read=5), **settings.pop("timeouts", {})),
        retry=replace(FAST, max_attempts=ATTEMPTS),
        proxies={"http": proxy, "https": proxy} if proxy else None,
        **settings,
    )


def times_sent(case: Case, caller: str) -> int:
    """How often the request is sent: a stream is not retried once its caller has a chunk."""
    has_a_chunk = caller == "stream" and case.text
    return ATTEMPTS if case.error and case.retryable and not has_a_chunk else 1


# A batch waits for as long as it takes when its prompts are rejected.
CALLS = [
    pytest.param(case, caller, id=f"{case}-{caller}")
    for case in CASES
    for caller in CALLERS
    if not (case.rejected and caller == "batch")
]


@pytest.mark.parametrize(("case", "caller"), CALLS)
def test_the_caller_gets_the_complete_text_or_the_right_error(case: Case, caller: str) -> None:
    """A fault gives the complete text, or the expected error after the retries that are safe."""
    with case.open() as place, client_of(case, place.url, place.proxy) as client:
        seen = CALLERS[caller](client)
        sent = place.faults
        assert (seen.kind, seen.text) == (case.error, case.text)
        assert not place.elsewhere
        if seen.error is not None:
            assert isinstance(seen.error, getattr(aichatfree, case.error or ""))
            assert seen.error.attempts == times_sent(case, caller)
        if case.serves_others:
            assert sent == times_sent(case, caller)
            reply = client.generate("How is it?")
            assert (reply.text, reply.attempts) == (WELL, 1)


@pytest.mark.parametrize("case", [case for case in CASES if not case.rejected], ids=str)
def test_a_batch_continues_after_a_fault_that_concerns_one_prompt(case: Case) -> None:
    """A batch continues after a fault, unless every other prompt would fail in the same way."""
    with (
        case.open() as place,
        client_of(case, place.url, place.proxy) as client,
        client.batch([FAULT, "How is it?"], max_workers=1) as batch,
    ):
        assert next(batch).ok is (case.error is None)
        if case.fatal:
            with pytest.raises(AIChatFreeError, match="every prompt would fail"):
                next(batch)
        elif case.serves_others:
            assert next(batch).text == WELL
