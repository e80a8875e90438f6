"""The kinds of sites that are known, and sites as data."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from aichatfree import OPENAI, Dialect, ProtocolError, Site
from aichatfree._protocol.dialects import DIALECTS
from aichatfree._protocol.models import read_models
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.responses import error_from_response, error_in_body
from aichatfree._settings import Settings
from aichatfree.errors import NotFoundError

from .bodies import sent, user

PNG = "data:image/png;base64,iVBORw0KGgo="
WITH_IMAGE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": PNG}},
        ],
    }
]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_list_of_models_names_the_key() -> None:
    """A site with a list of models calls the model's key modelId."""
    body = sent(Site(dialect=DIALECTS["gemini-models"]), "Hi", model="flash")
    assert body["modelId"] == "flash"
    assert "model" not in body


@pytest.mark.parametrize("name", ["freegpt", "aibn"])
def test_sites_with_seconds(name: str) -> None:
    """The old sites want seconds, and sign with the secret "undefined" unless one is given."""
    body = sent(Site(dialect=DIALECTS[name]), "Hi", now=1700000000.5)
    assert body["time"] == 1700000000
    assert body["sign"] == sha256("1700000000:Hi:undefined")
    body = sent(Site(dialect=DIALECTS[name], secret="s"), "Hi", now=1700000000.5)
    assert body["sign"] == sha256("1700000000:Hi:s")


def test_the_time_unit_of_a_site_overrides_its_dialects() -> None:
    """A site may use another unit of time than the others of its dialect."""
    assert sent(Site(dialect=OPENAI, time_unit="s"), "Hi", now=1700000000.5)["time"] == 1700000000


def test_a_dialect_of_ones_own_is_data() -> None:
    """Path, keys, what is signed and further keys of the body are data of a dialect."""
    other = Dialect(
        "other",
        path="/api/handle/openai",
        time_key="timestamp",
        model_key="engine",
        signed="{secret}|{time}|{text}",
        extra={"stream": True},
        sentences={"Pause": "overloaded"},
        failure_tails=["[failed]"],
    )
    body = sent(Site(dialect=other, secret="s"), "Hi", now=1.0, model="m")
    assert body == {
        "messages": [{"role": "user", "content": "Hi"}],
        "timestamp": 1000,
        "engine": "m",
        "stream": True,
        "pass": None,
        "sign": sha256("s|1000|Hi"),
    }
    error = error_in_body("Pause", {}, Site(dialect=other))
    assert type(error).__name__ == "OverloadedError"


def test_a_site_survives_the_way_to_another_process() -> None:
    """A site with sentences and a dialect of one's own is the same after JSON."""
    dialect = dataclasses.replace(OPENAI, name="own", extra={"a": [1]}, failure_tails=("x", "y"))
    site = Site("https://a.example", dialect, sentences={"No": "quota"}, ignore=("events",))
    settings = Settings.from_arguments(site, None, None, None, None, None, 1.0, None)
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))).site == site


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "openai",
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": PNG}},
                ],
            },
        ),
        (
            "gemini-models",
            {
                "role": "user",
                "parts": [
                    {"text": "What is this?"},
                    {"image": {"url": PNG, "type": "image/png", "name": "image", "size": 8}},
                ],
            },
        ),
        (
            "chat-mini",
            {
                "role": "user",
                "content": "What is this?",
                "attachments": [
                    {
                        "name": "image",
                        "type": "image/png",
                        "size": 8,
                        "content": PNG.partition(",")[2],
                        "encoding": "base64",
                    }
                ],
            },
        ),
    ],
)
def test_an_image_in_each_dialect(name: str, expected: object) -> None:
    """An image goes where the dialect has it."""
    assert sent(Site(dialect=DIALECTS[name]), WITH_IMAGE)["messages"] == [expected]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("openai", "[object Object],[object Object]"),
        ("gemini-models", "What is this?"),
        ("chat-mini", "What is this?"),
    ],
)
def test_what_is_signed_beside_an_image(name: str, text: str) -> None:
    """The signed text is what the server makes of the last message, a list as in JavaScript."""
    body = sent(Site(dialect=DIALECTS[name]), WITH_IMAGE)
    assert body["sign"] == sha256(f"{body['time']}:{text}:")


@pytest.mark.parametrize("name", ["gemini", "freegpt"])
def test_images_are_refused_before_anything_is_sent(name: str) -> None:
    """A dialect without images refuses a message with one."""
    with pytest.raises(ValueError, match="do not take images"):
        messages_from(WITH_IMAGE, None, DIALECTS[name])


@pytest.mark.parametrize(
    "url", ["http://a.example/x.png", "data:text/plain,x", "data:image/png;base64,?"]
)
def test_an_image_is_a_data_url(url: str) -> None:
    """An image that is not a usable data: URL is a ValueError."""
    prompt = [{**user("Hi"), "images": [url]}]
    with pytest.raises(ValueError, match="data: URL"):
        messages_from(prompt, None, DIALECTS["chat-mini"])


def test_the_models_of_a_site() -> None:
    """The list of models is the ids of a site's list, or a list as it is."""
    listed = {
        "models": [{"id": "flash", "provider": "gemini"}, {"id": "mini"}],
        "defaultModelId": 1,
    }
    assert read_models(200, {}, json.dumps(listed).encode(), Site()) == ["flash", "mini"]
    assert read_models(200, {}, b'["a", "b"]', Site()) == ["a", "b"]


def test_no_list_of_models() -> None:
    """A site without a list gives the error for what it responded."""
    with pytest.raises(NotFoundError):
        read_models(404, {}, b"Not found", Site())
    with pytest.raises(ProtocolError, match="list of models"):
        read_models(200, {}, b"<!doctype html><html></html>", Site())


def test_unknown_checks_and_meanings() -> None:
    """What is to be ignored, and what a sentence means, are among the known names."""
    with pytest.raises(ValueError, match=r"Site\.ignore"):
        Site(ignore=("everything",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Site\.sentences"):
        Site(sentences={"No": "nothing"})


def test_a_sites_sentence_in_an_error() -> None:
    """A site's own sentence means the same in an error response."""
    site = Site(sentences={"Closed on Sundays": "overloaded"})
    error = error_from_response(500, {}, b"Sorry: closed on sundays.", site)
    assert type(error).__name__ == "OverloadedError"
