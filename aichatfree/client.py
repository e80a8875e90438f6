"""``Client``: the main class of the package."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import requests

from ._local import LOCAL, site_of_base_url
from ._prompt_sender import PromptSender
from ._protocol.dialects import Dialect
from ._protocol.messages import Message, Prompt
from ._protocol.sites import Site
from ._requester import Requester
from ._settings import MAX_REPLY_BYTES, ClientOptions, ConnectionOptions, Settings
from .chat import Chat, OnPartial
from .health import Health, check_sites
from .retry import UNSET, Retry, RetryOption, RetryPolicy
from .stream import Reply, Stream
from .timeout import TimeLimit, Timeout

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Self, Unpack

    from .batch import Batch, PromptSource


class Client:
    """A client of one site that speaks the signed chat protocol. Threads may share it.

    Each setting comes from its argument, or else from the environment, or else from a default.

    >>> with aichatfree.Client(timeout=30) as client:
    ...     print(client.generate("Name a river."))
    The Nile.
    >>> aichatfree.Client("https://chat.example", dialect="openai", secret="s3cret")
    Client('https://chat.example', dialect='openai')

    Args:
        base_url: the site's address, or a :class:`Site` (``AICHATFREE_BASE_URL``,
            https://aichatfree.info); ``"local"`` for the built-in model, as in :meth:`local`.
        dialect: the kind of site (``AICHATFREE_DIALECT``): ``"gemini"``, ``"openai"``,
            ``"chat-mini"``, ``"gemini-models"``, ``"freegpt"``, ``"aibn"`` or a :class:`Dialect`.
        secret: the key that requests are signed with (``AICHATFREE_SECRET``, empty).
        password: the site's password (``AICHATFREE_PASSWORD``, none).
        model: the model named in requests (``AICHATFREE_MODEL``); most sites ignore it.
        system: the system prompt of every conversation that does not have one.
        timeout: a :class:`Timeout`, or seconds for its ``connect`` and ``read``.
        retry: a :class:`RetryPolicy`, a ``tenacity.Retrying``, or ``None`` for one attempt.
        max_requests_per_minute: the site's rate limit; by default it is learned from rejections.
        max_connections: idle connections kept open for reuse.
        max_reply_bytes: the largest answer accepted, in bytes (16 MiB); ``None`` for any size.
        headers: sent with every request; they override the default ones.
        proxies: as in requests; by default taken from the environment.
        verify: as in requests: ``False``, or the path of a certificate authority's file.
        session: your own ``requests.Session``, used as it is and never closed.

    Raises:
        TypeError, ValueError: an argument or an environment variable cannot be used.
    """

    def __init__(
        self,
        base_url: str | Site | None = None,
        *,
        dialect: str | Dialect | None = None,
        secret: str | None = None,
        password: str | None = None,
        model: str | None = None,
        system: str | None = None,
        timeout: TimeLimit = Timeout(),  # noqa: B008  (frozen)
        retry: Retry = RetryPolicy(),  # noqa: B008  (frozen)
        max_requests_per_minute: float | None = None,
        max_connections: int = 32,
        max_reply_bytes: int | None = MAX_REPLY_BYTES,
        headers: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        session: requests.Session | None = None,
    ) -> None:
        limits = (max_requests_per_minute, max_connections, max_reply_bytes)
        connection = ConnectionOptions(*limits, headers, proxies, verify, session)
        with site_of_base_url(base_url) as (site, on_close):
            settings = Settings.from_arguments(
                site, dialect, secret, password, model, system, timeout, retry
            )
            self._requester: PromptSender = Requester(settings, connection, on_close)

    @classmethod
    def local(cls, **settings: Unpack[ClientOptions]) -> Self:
        """A client of the built-in model, which answers in this process until it is closed.

        >>> with aichatfree.Client.local(timeout=60) as client:
        ...     "Paris" in str(client.generate("What is the capital of France?"))
        True

        Raises:
            ImportError: the extra ``local`` is not installed.
            AIChatFreeError: the model could not be downloaded (93 MB, once) or loaded.
        """
        return cls(LOCAL, **settings)

    def generate(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Reply:
        """Send a prompt and wait for the complete answer, with retries where that is safe.

        >>> print(client.generate("Name a river.", system="Be brief."))
        The Nile.

        Args:
            prompt: the question, or a list of ``{"role": ..., "content": ...}`` messages with the
                roles ``system``, ``user`` and ``assistant``.
            system: a system prompt for this call.
            temperature: the randomness of the answer, for dialects that have it (openai).
            timeout: for this call, as in the client.
            retry: for this call, as in the client.

        Raises:
            TypeError, ValueError: the arguments cannot be sent; nothing was sent.
            APIError: there is no complete answer; ``partial_text`` has what arrived of it.
        """
        stream = self._requester.stream(prompt, system, temperature, timeout, retry, buffered=True)
        return stream.reply()

    def stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Stream:
        """Send a prompt and get the answer as it arrives.

        The request is sent when the first chunk is asked for, and retried only until the first
        chunk has arrived. The arguments are those of :meth:`generate`.

        >>> with client.stream("Name a river.") as stream:
        ...     for chunk in stream:
        ...         print(chunk, end="", flush=True)
        ...     print()
        The Nile.

        Raises:
            TypeError, ValueError: the arguments cannot be sent.
        """
        return self._requester.stream(prompt, system, temperature, timeout, retry)

    def chat(
        self,
        system: str | None = None,
        *,
        messages: Sequence[Message] = (),
        on_partial: OnPartial = "drop",
    ) -> Chat:
        """Begin or continue a conversation.

        >>> chat = client.chat(system="Be brief.")
        >>> print(chat.send("Name a river."), chat.send("Where does it end?"))
        The Nile. In the Mediterranean Sea.

        Args:
            system: the system prompt; by default the client's.
            messages: the messages so far.
            on_partial: what to do with a question whose answer was cut off: ``"drop"`` both, or
                ``"keep"`` the question and what has arrived.
        """
        system = self._requester.settings.system if system is None else system
        stream = self._requester.for_chat()
        return Chat(stream, system=system, messages=messages, on_partial=on_partial)

    def batch(
        self,
        prompts: PromptSource,
        *,
        max_workers: int = 16,
        ordered: bool = True,
        output: str | os.PathLike[str] | None = None,
        resume: bool = True,
        executor: Executor | None = None,
        shard_size: int = 64,
        progress: bool | None = None,
        max_errors: int | None = None,
        dedupe: bool = False,
        template: str | None = None,
        column: str | None = None,
        id: str | None = None,
        skip_empty: bool = False,
        client_factory: Callable[[], Client] | None = None,
    ) -> Batch:
        """Send many prompts and get their results one by one.

        A prompt that fails has a result with its error. The run stops if every prompt would fail
        (a wrong password, an exhausted quota). Rejected requests are retried until the site accepts
        them; but a prompt that it rejects again and again while it answers others fails.

        >>> for result in client.batch(["Name a river.", "Name a lake."], output="answers.jsonl"):
        ...     print(result.custom_id, result.text if result.ok else result.error)
        0 The Nile.
        1 Lake Baikal.

        Args:
            prompts: an iterable, which may be lazy or endless, of strings, message lists, and dicts
                with ``prompt`` or ``messages`` and optionally ``custom_id`` and ``temperature``;
                the path of a ``.jsonl`` file of these, or of a ``.txt`` file with one on each line;
                or, for ``template=`` or ``column=``, rows: a ``.csv``, ``.tsv``, ``.parquet`` or
                ``.jsonl`` file, a frame of pandas or Polars, or an iterable of dicts. As a type:
                :data:`aichatfree.batch.PromptSource`.
            max_workers: threads that send prompts (of each shard, with an executor), up to 10,000.
            ordered: results in the order of the prompts, or as they are completed.
            output: a ``.jsonl`` file for each answer as it is completed; or a ``.csv`` or
                ``.parquet`` table, written at the end from ``<output>.jsonl`` beside it.
            resume: continue an earlier run; otherwise an output with answers is refused.
            executor: a ``concurrent.futures.Executor`` whose workers send ``shard_size`` prompts
                at a time. It is never shut down. Workers get no secrets, but read their own
                environment, and the shards in flight share ``max_requests_per_minute``.
            progress: show a progress bar; ``None`` shows it on a terminal and in a notebook.
            max_errors: stop after more failures than this.
            dedupe: send identical prompts only once.
            template: the prompt of each row, such as ``"Classify: {review}"``.
            column: instead of a template, the column that has the prompts.
            id: the column that identifies the rows; by default ``custom_id`` if there is such a
                column, or else their position.
            skip_empty: skip rows with nothing in a column that the prompt needs.
            client_factory: makes the client of a worker of the executor.

        Raises:
            TypeError, ValueError: an argument or a prompt cannot be used; nothing was sent.
            AIChatFreeError, OSError: another run uses ``output``, or a file cannot be used.
        """
        from .batch._start import start_batch

        return start_batch(
            self._requester,
            prompts,
            max_workers=max_workers,
            ordered=ordered,
            output=output,
            resume=resume,
            executor=executor,
            shard_size=shard_size,
            progress=progress,
            max_errors=max_errors,
            dedupe=dedupe,
            template=template,
            column=column,
            id=id,
            skip_empty=skip_empty,
            client_factory=client_factory,
        )

    def check(self) -> Health:
        """Try each setting on the site and report what is right and what is wrong.

        It sends one short prompt, also in other dialects if the site may speak another one. Each
        request may take a minute. Failures are part of the result.

        >>> print(client.check())
        ok    url       http://127.0.0.1:... has a chat API
        ok    clock     this machine's clock agrees with the site's
        ok    password  the password is not needed
        ok    signature the site accepts the signature
        ok    answer    the first text came after 0... s
        """
        return check_sites(self._requester.requesters)

    def models(self) -> list[str]:
        """The models that the site lists, for ``model=``; only some sites have a list.

        >>> client.models()
        Traceback (most recent call last):
        aichatfree.errors.NotFoundError: The site answered 404 (Not found). ...

        Raises:
            APIError: the site has no list, or it could not be read.
        """
        return self._requester.models()

    def with_options(self, **changes: Unpack[ClientOptions]) -> Self:
        """A client with other settings that shares this one's connections and rate limit.

        >>> patient = client.with_options(timeout=aichatfree.Timeout(read=120, total=600))

        Args:
            changes: any of the settings from ``dialect`` to ``retry`` in :class:`Client`.

        Raises:
            TypeError, ValueError: a setting is unknown or cannot be used.
        """
        settings = self._requester.settings.changed(changes)
        return self._using(self._requester.with_settings(settings))

    @classmethod
    def _using(cls, requester: PromptSender) -> Self:
        client = cls.__new__(cls)
        client._requester = requester
        return client

    def to_dict(self, share: float = 1.0) -> dict[str, Any]:
        """The settings, without secrets, as plain data for another process; each shard has them.

        >>> client.to_dict()["settings"]["site"]["base_url"]
        'http://127.0.0.1:...'

        Args:
            share: the part of ``max_requests_per_minute`` that the other process may use.

        Raises:
            ValueError: a setting cannot be sent: a ``session=``, or a secret given as an argument.
        """
        return self._requester.to_dict(share)

    def close(self) -> None:
        """Cancel all calls and close the connections, also for clients that share them.

        >>> client.close()
        """
        self._requester.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        site = self._requester.requesters[0].settings.site
        return f"Client({site.base_url!r}, dialect={site.dialect.name!r})"
