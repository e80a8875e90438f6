# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""The public API as users write it. Type checkers read this file; nothing runs it.

``assert_type`` fails if a type becomes less precise. A line with ``type: ignore`` is wrong on
purpose: type checkers report the comment if the line becomes acceptable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Any, assert_type

import requests
import tenacity

import aichatfree
from aichatfree import (
    GEMINI,
    APIError,
    APIStatusError,
    Chat,
    Client,
    Dialect,
    Finding,
    Health,
    Message,
    RateLimitError,
    Reply,
    RetryPolicy,
    Router,
    Site,
    Stream,
    StreamInterruptedError,
    Timeout,
)
from aichatfree.batch import Batch, BatchResult, Summary, make_shards, read_results, run_shard
from aichatfree.gateway import (
    Engine,
    EngineError,
    Gateway,
    OpenAIUpstream,
    SiteEngine,
    SmolLM2,
    TokenLimitError,
    Usage,
)
from aichatfree.testing import Answer, FakeSite, Raw, Request

assert_type(aichatfree.__version__, str)


# --- clients ----------------------------------------------------------------------------------


def clients() -> None:
    Client()
    Client("https://chat.example", dialect="openai", secret="s", password="p", model="m")
    Client(Site("https://chat.example", time_unit="s", quota_phrases=("No more.",)), system="Hi")
    Client(timeout=30, retry=None, max_requests_per_minute=60, max_connections=8)
    Client(timeout=Timeout(connect=1, read=2.5, total=None), max_reply_bytes=None)
    Client(retry=RetryPolicy(max_attempts=8, max_elapsed=None, initial_wait=1, max_wait=60))
    Client(retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(3)))
    Client(headers={"X-Team": "a"}, proxies={"https": "http://proxy.example"}, verify="ca.pem")
    Client(session=requests.Session(), verify=False)

    Client(5)  # type: ignore[arg-type]
    Client("https://chat.example", "openai")  # type: ignore[call-arg]
    Client(timeout="30")  # type: ignore[arg-type]
    Client(timeout=None)  # type: ignore[arg-type]
    Client(retry=3)  # type: ignore[arg-type]
    Client(retry=tenacity.AsyncRetrying())  # type: ignore[arg-type]
    Client(headers={"X-Team": 1})  # type: ignore[dict-item]
    Client(sesion=None)  # type: ignore[call-arg]


def other_options(client: Client) -> None:
    assert_type(client.with_options(), Client)
    client.with_options(dialect=GEMINI, secret="s", password=None, model="m", system="Be brief.")
    client.with_options(timeout=Timeout(total=600), retry=None)

    client.with_options(tmeout=5)  # type: ignore[call-arg]
    client.with_options(headers={})  # type: ignore[call-arg]
    client.with_options(timeout="5")  # type: ignore[arg-type]


def several_sites(client: Client) -> None:
    with Router([client, Client("https://chat.example")], timeout=30, retry=None) as router:
        assert_type(router, Router)
        assert_type(router.with_options(timeout=5), Router)
        assert_type(router.generate("Hi").site, str)
    assert_type(Router.from_file("aichatfree.toml"), Router)
    Router([router])

    Router(["https://chat.example"])  # type: ignore[list-item]
    Router([client], model="m")  # type: ignore[call-arg]


def subclasses() -> None:
    class Translator(Client):
        def translate(self, text: str) -> str:
            return self.generate(f"Translate: {text}").text

    with Translator() as translator:
        assert_type(translator, Translator)
        assert_type(translator.with_options(model="m").translate("Hi"), str)


def settings() -> None:
    assert_type(Timeout(3).connect, float | None)
    assert_type(RetryPolicy().max_attempts, int)
    assert_type(Site().dialect, Dialect)
    assert_type(GEMINI.name, str)
    assert_type(aichatfree.generate_signature(1_700_000_000_000, "Hi", secret="s"), str)

    Timeout("3")  # type: ignore[arg-type]
    RetryPolicy(max_attempts=2.5)  # type: ignore[arg-type]
    Site(time_unit="min")  # type: ignore[arg-type]
    Site(dialect="openai")  # type: ignore[arg-type]
    Site().secret = "s"  # type: ignore[misc]
    aichatfree.generate_signature("1700000000000", "Hi")  # type: ignore[arg-type]


# --- prompts ----------------------------------------------------------------------------------


def answers(client: Client, history: list[Message], loaded: list[dict[str, str]]) -> None:
    reply = client.generate("Hi", system="Be brief.", temperature=0.5, timeout=30, retry=None)
    assert_type(reply, Reply)
    assert_type("River: " + reply, str)
    assert_type(str(reply), str)
    assert_type(reply.text, str)
    assert_type(reply.site, str)
    assert_type(reply.attempts, int)
    assert_type(reply.elapsed + reply.time_to_first_chunk, float)
    client.generate([{"role": "user", "content": "Hi"}])
    client.generate(history, retry=RetryPolicy(max_attempts=2))
    client.generate(loaded, timeout=Timeout(total=5))

    client.generate(5)  # type: ignore[arg-type]
    client.generate(b"Hi")  # type: ignore[arg-type]
    client.generate(["Hi"])  # type: ignore[list-item]
    client.generate("Hi", "Be brief.")  # type: ignore[call-arg]
    client.generate("Hi", temperature="hot")  # type: ignore[arg-type]
    client.generate("Hi", retry=2)  # type: ignore[arg-type]
    reply.text = "Hi"  # type: ignore[misc]


def streams(client: Client) -> None:
    with client.stream("Hi", temperature=0, timeout=5, retry=None) as stream:
        assert_type(stream, Stream)
        for chunk in stream:
            assert_type(chunk, str)
    assert_type(next(stream), str)
    assert_type(list(stream), list[str])
    assert_type(stream.text, str)
    assert_type(stream.complete, bool)
    assert_type(stream.attempts, int)
    assert_type(stream.read(), str)
    assert_type(stream.reply(), Reply)
    stream.cancel()
    stream.close()
    chunks: Iterator[str] = stream
    assert_type("".join(chunks), str)

    stream.text = ""  # type: ignore[misc]
    client.stream(None)  # type: ignore[arg-type]


def chats(client: Client, history: list[Message]) -> None:
    chat = client.chat("Be brief.", messages=history, on_partial="keep")
    assert_type(chat, Chat)
    assert_type(chat.send("Hi", temperature=1, timeout=5, retry=None), Reply)
    assert_type(chat.stream("And then?"), Stream)
    assert_type(chat.messages, list[Message])
    assert_type(chat.messages[-1]["content"], str)
    chat.messages.append({"role": "assistant", "content": "Hello"})
    Path("chat.json").write_text(json.dumps(chat.to_dict()))
    assert_type(chat.to_dict(), dict[str, Any])
    assert_type(Chat.from_dict(json.loads(Path("chat.json").read_text()), client), Chat)

    client.chat(on_partial="maybe")  # type: ignore[arg-type]
    chat.send(["Hi"])  # type: ignore[arg-type]
    chat.messages.append({"role": "model", "content": "Hello"})  # type: ignore[typeddict-item]
    chat.messages.append({"role": "user"})  # type: ignore[typeddict-item]


def check(client: Client) -> None:
    health = client.check()
    assert_type(health, Health)
    assert_type(health.ok, bool)
    for finding in health.findings:
        assert_type(finding, Finding)
        assert_type(finding.site, str)
        assert_type(finding.name, str)
        assert_type(finding.ok, bool | None)
        assert_type(finding.detail, str)


def errors(client: Client) -> None:
    try:
        client.generate("Hi")
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
    except StreamInterruptedError as error:
        assert_type(error.partial_text, str)
    except APIStatusError as error:
        assert_type(error.status_code, int | None)
        assert_type(error.body, str | None)
    except APIError as error:
        assert_type(error.attempts, int)
        assert_type(error.message, str)
    except aichatfree.AIChatFreeError as error:
        print(error.attempts)  # type: ignore[attr-defined]


# --- batches ----------------------------------------------------------------------------------


def make_client() -> Client:
    return Client(secret="from a vault")


def batches(client: Client, history: list[Message]) -> None:
    batch = client.batch(["one", "two"], max_workers=32, ordered=False, output="answers.jsonl")
    assert_type(batch, Batch)
    for result in batch:
        assert_type(result, BatchResult)
        assert_type(result.site, str)
        assert_type(result.custom_id, str)
        assert_type(result.index, int)
        assert_type(result.text, str)
        assert_type(result.error, Exception | None)
        assert_type(result.ok, bool)
        assert_type(result.attempts, int)
        assert_type(result.elapsed, float)
        assert_type(result.reused, bool)
    with batch:
        assert_type(next(batch), BatchResult)
        assert_type(batch.run(), Summary)
        assert_type(batch.drain(), list[BatchResult])
    assert_type(batch.summary.answered + batch.summary.done, int)
    assert_type(batch.summary.answered_by, dict[str, int])
    assert_type(batch.summary.rate, float)
    assert_type(batch.summary.complete, bool)

    client.batch((f"Name {n} rivers." for n in range(9)), progress=False, max_errors=3)
    client.batch([{"custom_id": "a", "prompt": "Hi", "temperature": 0.5}], dedupe=True)
    client.batch([{"custom_id": "a", "messages": history}])
    client.batch([history, "Hi"])
    client.batch([{"id": 7, "review": "Good."}], template="Classify: {review}", id="id")
    client.batch("reviews.csv", column="review", skip_empty=True, output="out.csv").run()
    client.batch(Path("prompts.csv"), column="question", output=Path("a.jsonl"), resume=False)
    with ProcessPoolExecutor() as executor:
        client.batch("prompts.txt", executor=executor, shard_size=8, client_factory=make_client)
    for shard in make_shards(client, ["one"], parallel=4):
        assert_type(read_results(run_shard(shard, make_client)), list[BatchResult])

    client.batch(5)  # type: ignore[arg-type]
    client.batch([1, 2])  # type: ignore[list-item]
    client.batch(["one"], 32)  # type: ignore[call-arg]
    client.batch(["one"], client_factory=client)  # type: ignore[arg-type]
    client.batch(["one"], executor=4)  # type: ignore[arg-type]


# --- sites on this machine --------------------------------------------------------------------


class Shouting(Engine):
    """An engine that a user has written."""

    def generate(self, messages: list[Message], **options: Any) -> Iterator[str]:
        if not messages:
            raise EngineError("Nothing was asked.", status=400, code="empty", retry_after=None)
        yield messages[-1]["content"].upper()


class Counting(Engine):
    """One that uses all that there is."""

    models = ("counting",)

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        max_tokens: int | None,
        cancelled: Event,
    ) -> Iterator[str | Usage]:
        yield "one"
        yield Usage(prompt_tokens=1, completion_tokens=1)
        raise TokenLimitError


class NotAnEngine:
    """A class without the methods of an engine."""


def gateways() -> None:
    engines: list[Engine] = [
        SmolLM2(Path("model.gguf"), threads=2, parallel=1, context=512, max_tokens=64),
        OpenAIUpstream("http://127.0.0.1:11434/v1", "llama3.2", api_key=None, timeout=60),
        Shouting(),
        Counting(),
        SiteEngine(Client("https://chat.example"), models=["m"]),
    ]
    with Gateway(engines[0], port=8000, secret="s", password=["a", "b"]) as gateway:
        assert_type(gateway, Gateway)
        assert_type(gateway.url, str)
    Gateway(Shouting(), time_window=60, refuse_replays=True, allow_truncated=True).close(grace=1)

    Gateway(NotAnEngine())  # type: ignore[arg-type]
    Gateway(port="8000")  # type: ignore[arg-type]
    OpenAIUpstream("http://127.0.0.1:11434/v1")  # type: ignore[call-arg]


def echo(request: Request) -> Answer:
    assert_type(request.json, Any)
    assert_type(request.headers["Content-Type"], str)
    return Answer(request.text, gap=0.1, end="cut", headers={"Retry-After": "1"})


def fake_sites() -> None:
    assert_type(Answer(body="{}", status=429).status, int)
    script: list[str | Answer | Raw] = ["Hi", Answer("Hel", b"lo"), Raw(b"HTTP/1.1 2", end="reset")]
    entered: AbstractContextManager[FakeSite] = FakeSite(script)
    with entered, FakeSite([echo, "Hi"], secret="s", password="p", verify=True) as site:
        assert_type(site.url, str)
        assert_type(site.requests, list[Request])
    FakeSite(lambda request: request.text)

    FakeSite(404)  # type: ignore[arg-type]
    FakeSite([404])  # type: ignore[list-item]
    Answer("Hi", end="soon")  # type: ignore[arg-type]
    Answer(5)  # type: ignore[arg-type]
