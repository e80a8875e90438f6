"""The clients that are compared: each asks one question and hands over what it gets, as it comes.

All are given the same time limits as far as they know them, and none sends anything twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import Any

import requests

import aichatfree
from benchmarks.faults.processes import Ask, Question, Take


@dataclass(frozen=True)
class Client:
    """A client: its name in the tables, the package that it needs, and how it asks."""

    name: str
    package: str
    ask: Ask


def our_client(question: Question) -> aichatfree.Client:
    limits = aichatfree.Timeout(question.connect, question.read, question.total)
    settings: dict[str, Any] = {}
    if question.proxy:
        settings["proxies"] = {"http": question.proxy, "https": question.proxy}
    if question.max_reply_bytes:
        settings["max_reply_bytes"] = question.max_reply_bytes
    return aichatfree.Client(question.url, timeout=limits, retry=None, **settings)


def by_generate(question: Question, take: Take) -> None:
    with our_client(question) as client:
        take(client.generate(question.text).text)


def by_stream(question: Question, take: Take) -> None:
    with our_client(question) as client, client.stream(question.text) as stream:
        for chunk in stream:
            take(chunk)


def endpoint(question: Question) -> str:
    return f"{question.url}/api/generate"


def body(question: Question) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {
        "messages": [{"role": "user", "parts": [{"text": question.text}]}],
        "time": now,
        "pass": None,
        "sign": hashlib.sha256(f"{now}:{question.text}:".encode()).hexdigest(),
    }


def by_requests(question: Question, take: Take) -> None:
    """The loop of tutorials and scripts, with the check and the limits of the better ones."""
    with requests.post(
        endpoint(question),
        json=body(question),
        timeout=(question.connect, question.read),
        proxies={"http": question.proxy, "https": question.proxy} if question.proxy else None,
        stream=True,
    ) as reply:
        reply.raise_for_status()
        for chunk in reply.iter_content(1024, decode_unicode=True):
            take(chunk)


def by_aiohttp(question: Question, take: Take) -> None:
    """A simple design: a session for each call, and each chunk decoded separately."""
    asyncio.run(ask_with_aiohttp(question, take))


async def ask_with_aiohttp(question: Question, take: Take) -> None:
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=question.total or 300,  # aiohttp's own, which the seed leaves as it is
        sock_connect=question.connect,
        sock_read=question.read,
    )
    headers = {"Accept-Encoding": "gzip, deflate, br"}
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
        session.post(endpoint(question), json=body(question), proxy=question.proxy) as reply,
    ):
        if reply.status == 500 and "Quota exceeded" in await reply.text():
            raise RuntimeError("Rate limit reached")
        reply.raise_for_status()
        async for chunk in reply.content.iter_any():
            take(chunk.decode(errors="ignore"))


def by_httpx(question: Question, take: Take) -> None:
    """As its documentation streams text."""
    import httpx

    with httpx.stream(
        "POST",
        endpoint(question),
        json=body(question),
        timeout=httpx.Timeout(question.read, connect=question.connect),
        proxy=question.proxy,
    ) as reply:
        reply.raise_for_status()
        for text in reply.iter_text():
            take(text)


CLIENTS = [
    Client("aichatfree.generate", "aichatfree", by_generate),
    Client("aichatfree.stream", "aichatfree", by_stream),
    Client("requests", "requests", by_requests),
    Client("aiohttp", "aiohttp", by_aiohttp),
    Client("httpx", "httpx", by_httpx),
]
