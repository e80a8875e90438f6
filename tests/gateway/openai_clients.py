"""Programs that speak OpenAI's API, as their users would call them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any
from unittest.mock import patch

import llm
import llm.cli
import openai
from click.testing import CliRunner

from helpers import LONG, SHORT


class LLMError(Exception):
    """The command `llm` has failed; its message is what the command printed."""


LONG_ANSWER = "Write a very long story about a dragon, with many details."
"""A question whose answer takes the built-in model much longer than a client to stop."""


def ask_openai(url: str, key: str, stream: bool) -> str:
    """Ask with the `openai` library."""
    with openai.OpenAI(base_url=url, api_key=key) as client:
        chat = client.chat.completions
        if not stream:
            reply = chat.create(model="any", messages=[{"role": "user", "content": "Hi"}])
            return reply.choices[0].message.content or ""
        text = ""
        events = chat.create(
            model="any",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for event in events:
            for choice in event.choices:
                text += choice.delta.content or ""
        return text


def stop_openai(url: str, key: str) -> None:
    """Ask with the `openai` library, and close the stream after its first event."""
    with openai.OpenAI(base_url=url, api_key=key, timeout=LONG) as client:
        stream = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": LONG_ANSWER}], stream=True
        )
        with stream:
            next(iter(stream))


def langchain_stream(url: str, key: str, question: str = "Hi") -> Iterator[str]:
    """The text that LangChain yields, chunk by chunk."""
    with langchain(url, key) as chat:
        for chunk in chat.stream(question):
            yield str(chunk.content)


@contextmanager
def langchain(url: str, key: str) -> Iterator[Any]:
    """LangChain's client. The connections that it makes by itself are never closed."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    with openai.DefaultHttpxClient() as connections:
        yield ChatOpenAI(
            base_url=url,
            api_key=SecretStr(key),
            model="any",
            timeout=LONG,
            http_client=connections,
        )


def ask_langchain(url: str, key: str, stream: bool) -> str:
    """Ask with LangChain."""
    if stream:
        return "".join(langchain_stream(url, key))
    with langchain(url, key) as chat:
        return str(chat.invoke("Hi").content)


def stop_langchain(url: str, key: str) -> None:
    """Ask with LangChain, and stop reading after the first chunk with text."""
    for text in langchain_stream(url, key, LONG_ANSWER):
        if text:
            break


@contextmanager
def llm_settings(url: str) -> Iterator[dict[str, str]]:
    """The environment of a command `llm` that has the gateway in its file of models."""
    model = f'- model_id: gateway\n  model_name: any\n  api_base: "{url}"\n  api_key_name: any\n'
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(model)
        yield {"LLM_USER_PATH": folder}


@contextmanager
def openai_clients_closed() -> Iterator[None]:
    """Close what `llm` leaves open, since it counts on the end of its process."""
    make = openai.OpenAI
    with (
        ExitStack() as clients,
        patch.object(openai, "OpenAI", lambda **settings: clients.enter_context(make(**settings))),
    ):
        yield


def llm_arguments(key: str, question: str = "Hi") -> list[str]:
    return ["-m", "gateway", "--key", key, "--no-log", question]


def ask_llm(url: str, key: str, stream: bool) -> str:
    """Ask with the command `llm`."""
    arguments = llm_arguments(key) + ([] if stream else ["--no-stream"])
    with llm_settings(url) as environment, openai_clients_closed():
        done = CliRunner().invoke(llm.cli.cli, arguments, env=environment)
    if done.exit_code != 0:
        raise LLMError(done.output)
    return done.output.removesuffix("\n")


def stop_llm(url: str, key: str) -> None:
    """Ask with the command `llm` in another process, and press Ctrl-C after the first text."""
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    script = (
        "import signal, llm.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "llm.cli.cli()"
    )
    with (
        llm_settings(url) as environment,
        subprocess.Popen(
            [sys.executable, "-c", script, *llm_arguments(key, LONG_ANSWER)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        ) as process,
    ):
        limit = Timer(LONG, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            assert process.stdout.read(1), "llm has ended, or was killed, without any text"
            while process.poll() is None:
                # Pressed again, because Python ignores an interrupt that is raised in a destructor.
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(SHORT)
        finally:
            limit.cancel()
            process.kill()


CLIENTS: dict[str, Callable[[str, str, bool], str]] = {"openai": ask_openai, "llm": ask_llm}
"""Ask for an answer, streamed or not, and return its text."""
STOPPING_CLIENTS: dict[str, Callable[[str, str], None]] = {"openai": stop_openai, "llm": stop_llm}
"""Ask for a stream, and stop reading it soon after it has begun."""
# LangChain is not ready for Python 3.14: a dependency warns when it is imported, and another one
# has no wheels for 3.15. setup.cfg leaves it out there.
if sys.version_info < (3, 14):
    CLIENTS["langchain"] = ask_langchain
    STOPPING_CLIENTS["langchain"] = stop_langchain

FAILURES = (openai.APIError, LLMError)
"""What the clients raise for an answer that is incomplete; LangChain raises what `openai` does."""
