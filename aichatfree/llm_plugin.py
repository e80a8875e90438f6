"""The model ``aichatfree`` of the ``llm`` command; needs ``pip install ".[llm]"`` in a checkout.

    llm -m aichatfree "Hello, how are you?"

The key that ``llm`` stores under the name ``aichatfree`` is the site's password, because that is
what operators give to users; sites without a password need none. The secret can be stored there,
too, as ``aichatfree-secret``. Neither is an option, because ``llm`` logs options.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import click
import llm
from llm.parts import ReasoningPart, TextPart
from pydantic import ConfigDict, Field, field_validator

import aichatfree

from ._local import is_local
from ._sites_file import file_of_environment


class SiteError(llm.ModelError, click.ClickException):
    """The answer is incomplete, or there is none; ``__cause__`` is the error of this package.

    It is a ``ClickException``, because ``llm chat`` does not catch model errors, and click prints
    only its own exceptions in one line.
    """


class AIChatFree(llm.KeyModel):
    """A site that speaks the signed chat protocol; settings as for ``aichatfree.Client``."""

    model_id = "aichatfree"
    needs_key: str | None = "aichatfree"
    key_env_var: str | None = "AICHATFREE_PASSWORD"
    can_stream = True

    class Options(llm.Options):
        """What can be set for one prompt; defaults as for ``aichatfree.Client``."""

        model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

        base_url: str | None = Field(None, description="The site, or local (AICHATFREE_BASE_URL)")
        dialect: str | None = Field(
            None, description="The format of the site's messages (AICHATFREE_DIALECT)"
        )
        model: str | None = Field(
            None, description="The model named in requests; most sites ignore it (AICHATFREE_MODEL)"
        )
        temperature: float | None = Field(
            None, ge=0, le=100, description="The randomness of answers, in dialects that have one"
        )
        timeout: float | None = Field(
            None, gt=0, description="The total time that an answer may take, in seconds"
        )

        @field_validator("base_url")
        @classmethod
        def _is_a_url(cls, value: str | None) -> str | None:
            return value if value in (None, "", "local") else aichatfree.Site(value).base_url

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The site's password, or ``None``, because most sites have none."""
        with suppress(llm.NeedsKeyException):
            return super().get_key(explicit_key)
        return None

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[str]:
        """Yield the answer as it arrives, or in one chunk, with more retries, if not ``stream``.

        Raises:
            SiteError: the prompt cannot be sent, or the answer is incomplete.
        """
        options: Any = prompt.options
        try:
            messages = [_message_from(message) for message in prompt.messages]
            if not messages or messages[-1]["role"] != "user":
                raise ValueError("the prompt is empty: write what the model should answer")
            with _client(options, key) as client:
                if not stream:
                    yield client.generate(messages, temperature=options.temperature).text
                    return
                with client.stream(messages, temperature=options.temperature) as chunks:
                    yield from chunks
        except aichatfree.AuthenticationError as error:
            keys = "llm stores them as its keys aichatfree (password) and aichatfree-secret."
            raise SiteError(f"{error} {keys}") from error
        except (aichatfree.AIChatFreeError, ValueError, OSError) as error:
            raise SiteError(str(error)) from error


def _client(options: Any, key: str | None) -> aichatfree.Client:
    sites = file_of_environment()
    if sites and not options.base_url:
        if options.dialect or options.model:
            raise ValueError(f"dialect and model belong to each site in {sites}: leave them out")
        router = aichatfree.Router.from_file(sites)
        return router.with_options(timeout=aichatfree.Timeout(total=options.timeout))
    # The stored keys are those of a site, and the built-in model has its own.
    local = is_local(options.base_url)
    secret = None if local else llm.get_key(alias="aichatfree-secret", env="AICHATFREE_SECRET")
    return aichatfree.Client(
        options.base_url,
        dialect=options.dialect,
        secret=secret,
        password=None if local else key,
        model=options.model,
        timeout=aichatfree.Timeout(total=options.timeout),
    )


def _message_from(message: llm.Message) -> aichatfree.Message:
    """The text of a message, without another model's reasoning."""
    if not all(isinstance(part, (TextPart, ReasoningPart)) for part in message.parts):
        raise ValueError("only text can be sent: remove attachments and tool calls")
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    role: Any = message.role
    return {"role": role, "content": text}


@llm.hookimpl
def register_models(register: Any) -> None:
    """Register the model; ``llm`` calls this when it loads its plugins."""
    register(AIChatFree())
