"""``Client.check`` on sites of another dialect, and where only the operator can help."""

from __future__ import annotations

import json

import pytest

from aichatfree import Client, EmptyReplyError, Health
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor

WRONG_SIGNATURE = Answer(status=401, body='{"error":{"message":"Invalid signature."}}')


def openai_only(request: Request) -> Answer | str:
    """A site of the openai dialect, which checks the signature of ``content``."""
    message = request.json["messages"][-1]
    return "Hello" if "content" in message else WRONG_SIGNATURE


def gemini_only(request: Request) -> Answer | str:
    """A site of the gemini dialect, which fails if there are no parts."""
    message = request.json["messages"][-1]
    body = {"error": {"message": "Cannot read properties of undefined (reading 'map')"}}
    return "Hello" if "parts" in message else Answer(status=500, body=json.dumps(body))


def details(health: Health) -> dict[str, tuple[bool | None, str]]:
    return {finding.name: (finding.ok, finding.detail) for finding in health.findings}


def test_another_dialect_is_named(client_for: ClientFor) -> None:
    """Where another dialect works, its line says which one to set."""
    for script, wrong, right in (
        (openai_only, "gemini", "openai"),
        (gemini_only, "openai", "gemini"),
    ):
        with FakeSite(script) as site:
            health = client_for(site.url, dialect=wrong).check()
        ok, detail = details(health)["dialect"]
        assert (ok, health.ok) == (False, False)
        assert f"dialect={right!r} (AICHATFREE_DIALECT)" in detail


def test_the_dialect_is_not_blamed_if_no_other_one_works(client_for: ClientFor) -> None:
    """Where every dialect is refused, the signature's line says what may be wrong."""
    with FakeSite(WRONG_SIGNATURE) as site:
        health = client_for(site.url).check()
        assert len([r for r in site.requests if r.path == "/api/generate"]) < 7
    assert "dialect" not in details(health)
    assert "AICHATFREE_SECRET" in details(health)["signature"][1]


def test_the_operators_fault_is_not_the_settings(client_for: ClientFor) -> None:
    """Where only the operator can help, the settings are right and the answer's line says so."""
    body = '{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}'
    with FakeSite(Answer(status=401, body=body)) as site:
        found = details(client_for(site.url).check())
    assert found["signature"][0] is True
    assert "not your settings" in found["answer"][1]
    assert "operator" in found["answer"][1]


def test_reasoning_is_separated(client_for: ClientFor) -> None:
    """Reasoning before an answer is not part of it, and a chat does not send it back."""
    with FakeSite(Answer("<think>", "Long.", "</think>", "The Nile.")) as site:
        client: Client = client_for(site.url)
        reply = client.generate("Name a river.")
        assert (reply.text, reply.reasoning) == ("The Nile.", "Long.")
        with client.stream("Name a river.") as stream:
            assert list(stream) == ["The Nile."]
        assert stream.reasoning == "Long."
        chat = client.chat()
        chat.send("Name a river.")
        assert chat.messages[-1] == {"role": "assistant", "content": "The Nile."}


def test_an_empty_answer_is_asked_for_once_more(client_for: ClientFor) -> None:
    """An answer without text is retried once and no more, because it may be a safety block."""
    with FakeSite([Answer(), "The Nile."]) as site:
        assert client_for(site.url).generate("Name a river.").attempts == 2
    with FakeSite(Answer()) as site, pytest.raises(EmptyReplyError) as caught:
        client_for(site.url).generate("Name a river.")
    assert caught.value.attempts == 2
