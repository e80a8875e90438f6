"""``Client``: the face of the package."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypedDict

import requests

from ._arguments import check_number
from ._deadlines import Call, TimeLimit, Timeout, timeout_from
from ._protocol.dialects import DIALECTS, Dialect
from ._protocol.messages import Message, Prompt
from ._protocol.prompts import check_temperature, messages_from
from ._protocol.responses import hide_secrets
from ._protocol.signing import request_body
from ._protocol.sites import Site
from ._rate_limiter import Turns
from ._wire.transport import Transport
from .chat import Chat, OnPartial
from .errors import APIError
from .health import Health, check_site
from .retry import UNSET, Retry, RetryOption, RetryPolicy, check_retry, is_rejection, run_attempts
from .stream import Reply, Stream, read_text

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Self, Unpack

    from .batch import Batch
    from .batch._records import PromptSource


MAX_REPLY_BYTES: Final = 16 << 20
"""Bytes that an answer may have unless told otherwise; the longest of real models have 0.1 MB."""


@dataclass(frozen=True)
class _Settings:
    """What a client may change while it keeps its connections."""

    site: Site
    password: str | None = field(repr=False)
    model: str | None
    system: str | None
    timeout: Timeout
    retry: Retry


class ClientOptions(TypedDict, total=False):
    """What :meth:`Client.with_options` may change."""

    dialect: str | Dialect | None
    secret: str | None
    password: str | None
    model: str | None
    system: str | None
    timeout: TimeLimit
    retry: Retry


class Client:
    """Talks to one site that speaks the signed chat protocol. Threads may share it.

    Each setting is taken from its argument, or else from the environment, or else the default.

    >>> with aichatfree.Client(timeout=30) as client:
    ...     print(client.generate("Name a river."))
    The Nile.
    >>> aichatfree.Client("https://chat.example", dialect="openai", secret="s3cret")
    Client('https://chat.example', dialect='openai')

    Args:
        base_url: the site, or a :class:`Site` (``AICHATFREE_BASE_URL``,
            ``https://aichatfree.info``).
        dialect: ``"gemini"``, ``"openai"`` or a :class:`Dialect` (``AICHATFREE_DIALECT``).
        secret: the key of the signature (``AICHATFREE_SECRET``, empty).
        password: the site's password (``AICHATFREE_PASSWORD``, none).
        model: the model to name in requests; most sites ignore it (``AICHATFREE_MODEL``).
        system: the system prompt of every conversation that brings none of its own.
        timeout: a :class:`Timeout`, or seconds for its ``connect`` and ``read``.
        retry: a :class:`RetryPolicy`, a ``tenacity.Retrying``, or ``None`` for one attempt.
        max_requests_per_minute: the site's limit, if you know it; otherwise it is learnt from
            the requests that it turns away.
        max_connections: connections kept open for use again.
        max_reply_bytes: bytes that an answer may have; ``None`` for any length.
        headers: sent with every request, over the default ones.
        proxies: as in requests; the environment's where none are given.
        verify: as in requests: ``False``, or the file of a certificate authority.
        session: a ``requests.Session`` of your own, used as it is and never closed.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument, or the environment, has a value that cannot be used.
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
        check_number("max_connections", max_connections, min=1, max=10_000, integer=True)
        if max_reply_bytes is not None:
            check_number(
                "max_reply_bytes", max_reply_bytes, min=1, max=sys.maxsize - 1, integer=True
            )
        _check_connection(verify, proxies, headers, session)
        if isinstance(base_url, Site):
            site = base_url
        else:
            url = _first(base_url, environment("BASE_URL"))
            site = Site() if url is None else Site(url)
            dialect = _first(dialect, environment("DIALECT"))
            secret = _first(secret, environment("SECRET"))
        self._settings = _Settings(
            site=_site_with(site, dialect, secret),
            password=_optional_str("password", _first(password, environment("PASSWORD"))),
            model=_optional_str("model", _first(model, environment("MODEL"))),
            system=_optional_str("system", system),
            timeout=timeout_from(timeout),
            retry=check_retry(retry),
        )
        self._turns = Turns(max_requests_per_minute)
        self._travels = headers is None and proxies is None and verify is True and session is None
        self._transport = Transport(
            site.base_url,
            origin=site.origin,
            headers=_checked_headers(headers),
            proxies=proxies,
            verify=verify,
            session=session,
            max_connections=max_connections,
            max_reply_bytes=max_reply_bytes,
        )

    def generate(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Reply:
        """Ask, and wait for the whole answer.

        Whatever is safe to send again is sent again, an answer that broke off in the middle too.

        >>> print(client.generate("Name a river.", system="Be brief."))
        The Nile.
        >>> turns = ["Name a river.", "The Nile.", "Where does it end?"]
        >>> roles = ["user", "assistant", "user"]
        >>> client.generate([{"role": r, "content": c} for r, c in zip(roles, turns)]).text
        'In the Mediterranean Sea.'

        Args:
            prompt: the question, or a list of ``{"role": ..., "content": ...}`` messages with the
                roles ``system``, ``user`` and ``assistant``.
            system: a system prompt for this call.
            temperature: the randomness of the answer, where the dialect knows it (openai).
            timeout: for this call, as in the client.
            retry: for this call, as in the client.

        Raises:
            TypeError, ValueError: the arguments cannot be sent; nothing was.
            APIError: no whole answer came; ``partial_text`` has what did.
        """
        return self._stream(prompt, system, temperature, timeout, retry, whole=True).reply()

    def stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
    ) -> Stream:
        """Ask, and get the answer as it arrives.

        The request is sent when the first chunk is asked for, and sent again only before there is
        one. Arguments are those of :meth:`generate`.

        >>> with client.stream("Name a river.") as stream:
        ...     for chunk in stream:
        ...         print(chunk, end="", flush=True)
        ...     print()
        The Nile.

        Raises:
            TypeError, ValueError: the arguments cannot be sent; nothing will be.
        """
        return self._stream(prompt, system, temperature, timeout, retry)

    def chat(
        self,
        system: str | None = None,
        *,
        messages: Sequence[Message] = (),
        on_partial: OnPartial = "drop",
    ) -> Chat:
        """Begin a conversation, or go on with one.

        >>> chat = client.chat(system="Be brief.")
        >>> print(chat.send("Name a river."))
        The Nile.
        >>> print(chat.send("Where does it end?"))
        In the Mediterranean Sea.

        Args:
            system: its system prompt; the client's own if there is none.
            messages: turns that came before.
            on_partial: ``"drop"`` a turn whose answer broke off, or ``"keep"`` what arrived of it.
        """
        system = self._settings.system if system is None else system
        return Chat(self._stream, system=system, messages=messages, on_partial=on_partial)

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
        column: str | None = None,
        client_factory: Callable[[], Client] | None = None,
    ) -> Batch:
        """Ask many prompts, and get their results one by one.

        An error belongs to its prompt. The run as a whole stops where every prompt would fail (a
        wrong password or secret, no such host), and where the site's quota is used up for good.
        Requests that the site turns away as too many are sent again until it takes them.

        >>> prompts = ["Name a river.", "Name a lake."]
        >>> for result in client.batch(prompts, output="answers.jsonl"):
        ...     print(result.custom_id, result.text if result.ok else result.error)
        0 The Nile.
        1 Lake Baikal.

        Args:
            prompts: an iterable, lazy and endless ones included, of strings, message lists and
                dicts (``prompt`` or ``messages``, ``custom_id``, ``temperature``; lines of an
                OpenAI batch file as they are), or the path of a ``.jsonl`` file of such, a
                ``.txt`` file with a prompt a line, or a ``.csv`` file.
            max_workers: threads that ask at the same time, in each worker of an executor.
            ordered: results in the order of the prompts, or as they are completed.
            output: a ``.jsonl`` file that each answer is written to as soon as it is whole.
                Failures go to ``<output>.errors.jsonl`` beside it.
            resume: go on where an earlier run with the same ``output`` stopped: its answers are
                reused and its failures tried again. Otherwise an output with answers is refused.
            executor: a ``concurrent.futures.Executor`` whose workers do the asking. Secret and
                password do not travel: workers read their own environment, or ``client_factory``
                makes their client. ``max_requests_per_minute`` is divided among the shards at
                work. The executor is never shut down.
            shard_size: prompts that travel together to a worker.
            progress: show a progress bar; ``None`` shows it on a terminal and in a notebook.
            max_errors: stop when more prompts than this have failed.
            dedupe: send identical prompts once.
            column: the column of a ``.csv`` file that has the prompts.
            client_factory: makes the client of a worker of the executor.

        Raises:
            TypeError, ValueError: an argument, or a prompt of a list or a file, cannot be used;
                nothing was sent.
            AIChatFreeError: another run is writing to ``output``.
            OSError: a file cannot be read or written.
        """
        from .batch._start import start_batch

        return start_batch(
            self,
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
            column=column,
            client_factory=client_factory,
        )

    def check(self) -> Health:
        """Reach the site with each of its settings in turn, and say what is right and wrong.

        It asks one short question and takes a minute at most. Failures are in the result, not
        raised.

        >>> print(client.check())
        ok    url       http://127.0.0.1:... has a chat API
        ok    clock     this machine's clock agrees with the site's
        ok    password  the password is not needed
        ok    signature the site takes the signature
        ok    answer    the first text came after 0... s
        """
        timeout = dataclasses.replace(self._settings.timeout, total=60)
        return check_site(
            lambda path, body: self._transport.post(path, body, Call(timeout)),
            self._settings.site,
            self._settings.password,
            lambda: self.generate("Hello", timeout=timeout, retry=None),
        )

    def with_options(self, **changes: Unpack[ClientOptions]) -> Self:
        """A client with other settings that shares this one's connections and limit.

        >>> patient = client.with_options(timeout=aichatfree.Timeout(read=120, total=600))
        >>> print(patient.generate("Name a river."))
        The Nile.

        Args:
            changes: any of ``dialect``, ``secret``, ``password``, ``model``, ``system``,
                ``timeout`` and ``retry``.

        Raises:
            TypeError: a setting is unknown, or belongs to the connections.
        """
        known = sorted(ClientOptions.__annotations__)
        unknown = sorted(set(changes).difference(known))
        settings: dict[str, Any] = dict(changes)
        if unknown:
            raise TypeError(
                f"with_options() cannot change {unknown[0]!r}, only {', '.join(known)}: "
                "make a new Client for the rest"
            )
        if "timeout" in changes:
            settings["timeout"] = timeout_from(changes["timeout"])
        if "retry" in changes:
            check_retry(changes["retry"])
        for name in ("password", "model", "system"):
            _optional_str(name, settings.get(name))
        site = _site_with(
            self._settings.site, settings.pop("dialect", None), settings.pop("secret", None)
        )
        other = object.__new__(type(self))
        other._settings = dataclasses.replace(self._settings, site=site, **settings)
        other._transport, other._turns = self._transport, self._turns
        other._travels = self._travels
        return other

    def close(self) -> None:
        """Cancel what is under way and close the connections, also of clients that share them.

        >>> client.close()
        >>> client.generate("Name a river.")
        Traceback (most recent call last):
        aichatfree.errors.AIChatFreeError: This client is closed: make a new one.
        """
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        site = self._settings.site
        return f"Client({site.base_url!r}, dialect={site.dialect.name!r})"

    def _stream(
        self,
        prompt: Prompt,
        system: str | None,
        temperature: float | None,
        timeout: TimeLimit | None,
        retry: RetryOption,
        *,
        whole: bool = False,
        on_end: Callable[[Stream], None] | None = None,
    ) -> Stream:
        messages = self._messages(prompt, system)
        check_temperature(temperature, self._settings.site.dialect)
        policy = self._settings.retry if retry is UNSET else check_retry(retry)
        call = Call(
            self._settings.timeout if timeout is None else timeout_from(timeout),
            max_elapsed=policy.max_elapsed if isinstance(policy, RetryPolicy) else None,
        )
        send = self._sender(messages, temperature, call)
        return Stream(send, call, partial(run_attempts, policy, call), whole=whole, on_end=on_end)

    def _generate_patiently(self, prompt: Prompt, temperature: float | None, call: Call) -> Reply:
        """An answer for a batch: rejections are the pacer's affair, and never used up."""
        settings = self._settings
        if not settings.site.dialect.temperature:
            temperature = None
        send = self._sender(self._messages(prompt, None), temperature, call)
        patient = settings.retry is not None
        run = partial(run_attempts, settings.retry, call, patient=patient)
        return Stream(send, call, run, whole=True).reply()

    def _sender(
        self, messages: list[Message], temperature: float | None, call: Call
    ) -> Callable[[], Iterator[str]]:
        """What sends one attempt, signed when its turn has come."""
        settings = self._settings
        self._transport.cancel_tokens.add(call.cancel_token)

        def send() -> Iterator[str]:
            turn = self._turns.take(call)
            body = request_body(
                settings.site,
                messages,
                now=self._turns.time_to_sign(),
                password=settings.password,
                model=settings.model,
                temperature=temperature,
            )
            exchange = self._transport.post("/api/generate", body, call)
            try:
                yield from read_text(exchange, settings.site)
            except APIError as error:
                hide_secrets(error, settings.password, settings.site.secret)
                if is_rejection(error):
                    self._turns.turned_away(turn, error)
                raise

        return send

    def _messages(self, prompt: Prompt, system: str | None) -> list[Message]:
        system = self._system_for(prompt, system)
        return messages_from(prompt, system, self._settings.site.dialect)

    def _system_for(self, prompt: Prompt, system: str | None) -> str | None:
        if system is not None or self._settings.system is None:
            return system
        brings_its_own = not isinstance(prompt, str) and any(
            isinstance(message, Mapping) and message.get("role") == "system" for message in prompt
        )
        return None if brings_its_own else self._settings.system


def environment(name: str) -> str | None:
    """The setting ``AICHATFREE_<name>``; an empty one is none."""
    return os.environ.get(f"AICHATFREE_{name}") or None


def _first(argument: Any, otherwise: Any) -> Any:
    return otherwise if argument is None else argument


def _optional_str(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def _checked_headers(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must be str, and {name!r} or its value is not")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"the header {name!r} follows from each request: leave it out")
        if value != value.strip() or not value.isprintable() or not value.isascii():
            # Only the name: the value may be a token.
            raise ValueError(
                f"the header {name!r} has a line end, an outer space, or a character that is not "
                "ASCII in its value"
            )
    return headers


def _check_connection(verify: object, proxies: object, headers: object, session: object) -> None:
    if not isinstance(verify, (bool, str)) or verify == "":
        raise TypeError("verify= takes True, False, or the path of a certificate authority's file")
    if headers is not None and not isinstance(headers, Mapping):
        raise TypeError("headers= takes a dict of str")
    if session is not None and not isinstance(session, requests.Session):
        raise TypeError("session= takes a requests.Session")
    if proxies is None:
        return
    if not isinstance(proxies, Mapping) or not all(
        isinstance(value, str) for value in proxies.values()
    ):
        raise TypeError('proxies= takes a dict such as {"https": "http://proxy.example:3128"}')


def _site_with(site: Site, dialect: str | Dialect | None, secret: str | None) -> Site:
    if isinstance(dialect, str):
        if dialect not in DIALECTS:
            known = " or ".join(map(repr, DIALECTS))
            raise ValueError(f"unknown dialect {dialect!r}: use {known} (AICHATFREE_DIALECT)")
        dialect = DIALECTS[dialect]
    if dialect is not None:
        site = dataclasses.replace(site, dialect=dialect)
    return site if secret is None else dataclasses.replace(site, secret=secret)
