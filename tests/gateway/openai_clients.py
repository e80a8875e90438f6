"""Programs that speak OpenAI's API, as their users would call them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import llm
import llm.cli
import openai
from click.testing import CliRunner


class LLMError(Exception):
    """The command `llm` has failed; its message is what the command printed."""


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


def ask_langchain(url: str, key: str, stream: bool) -> str:
    """Ask with LangChain."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    chat = ChatOpenAI(base_url=url, api_key=SecretStr(key), model="any")
    if stream:
        return "".join(str(chunk.content) for chunk in chat.stream("Hi"))
    return str(chat.invoke("Hi").content)


def ask_llm(url: str, key: str, stream: bool) -> str:
    """Ask with the command `llm`, which has the gateway in its file of models."""
    model = f'- model_id: gateway\n  model_name: any\n  api_base: "{url}"\n  api_key_name: any\n'
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(model)
        command = ["-m", "gateway", "--key", key, "--no-log", "Hi"]
        done = CliRunner().invoke(
            llm.cli.cli,
            command if stream else [*command, "--no-stream"],
            env={"LLM_USER_PATH": folder},
        )
    if done.exit_code != 0:
        raise LLMError(done.output)
    return done.output.removesuffix("\n")


CLIENTS: dict[str, Callable[[str, str, bool], str]] = {"openai": ask_openai, "llm": ask_llm}
# LangChain is not ready for Python 3.14: a dependency warns when it is imported, and another one
# has no wheels for 3.15. setup.cfg leaves it out there.
if sys.version_info < (3, 14):
    CLIENTS["langchain"] = ask_langchain

FAILURES = (openai.APIError, LLMError)
"""What the clients raise for an answer that is incomplete; LangChain raises what `openai` does."""
