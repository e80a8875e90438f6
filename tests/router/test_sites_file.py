"""The TOML file of sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from aichatfree import OPENAI, Router
from aichatfree.testing import FakeSite
from helpers import UNREACHABLE, echo, threads_named, wait_until


def written(folder: Path, text: str) -> Path:
    path = folder / "aichatfree.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_site_has_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sites of a file may differ in dialect, secret, password, model and system prompt; secrets
    come from the variables that the file names."""
    monkeypatch.setenv("SECRET_OF_A", "s3cret")
    monkeypatch.setenv("PASSWORD_OF_B", "pa55word")
    with FakeSite([echo], secret="s3cret", verify=True) as a, FakeSite([echo]) as b:
        path = written(
            tmp_path,
            f"""
            [[site]]
            base_url = "{a.url}"
            dialect = "openai"
            secret_env = "SECRET_OF_A"
            model = "large"
            [[site]]
            base_url = "{b.url}"
            password_env = "PASSWORD_OF_B"
            system = "Be brief."
            max_requests_per_minute = 60000
            """,
        )
        with Router.from_file(path) as router:
            results = list(router.batch(["Hello"] * 20))
    assert all(result.ok for result in results)
    assert "content" in a.requests[0].json["messages"][0]
    assert a.requests[0].json["model"] == "large"
    assert b.requests[0].json["pass"] == "pa55word"
    assert b.requests[0].text == "Be brief.\n\nHello"


def test_the_settings_of_one_site_are_not_sent_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AICHATFREE_PASSWORD, AICHATFREE_MODEL and AICHATFREE_DIALECT do not hold for the sites of a
    file."""
    monkeypatch.setenv("AICHATFREE_PASSWORD", "pa55word")
    monkeypatch.setenv("AICHATFREE_MODEL", "large")
    monkeypatch.setenv("AICHATFREE_DIALECT", OPENAI.name)
    with FakeSite([echo]) as site:
        path = written(tmp_path, f'[[site]]\nbase_url = "{site.url}"\n')
        with Router.from_file(path) as router:
            router.generate("Hello")
            router.to_dict()  # nor do they hinder workers
    assert "pa55word" not in str(site.requests[0].json)
    assert "large" not in str(site.requests[0].json)
    assert "parts" in site.requests[0].json["messages"][0]


def test_a_site_may_name_what_is_not_looked_for(tmp_path: Path) -> None:
    """With `ignore = ["refusals"]` in a file, an answer in the words of a refusal is an answer."""
    with FakeSite(["Too many requests."]) as site:
        path = written(tmp_path, f"[[site]]\nbase_url = '{site.url}'\nignore = ['refusals']\n")
        with Router.from_file(path) as router:
            assert router.generate("What is 429?") == "Too many requests."


def test_a_site_may_be_the_built_in_model(tmp_path: Path) -> None:
    """The base URL `local` in a file is the built-in model, as it is for a client; it ends with the
    router.
    """
    path = written(
        tmp_path, f"[[site]]\nbase_url = '{UNREACHABLE}'\n[[site]]\nbase_url = 'local'\n"
    )
    with Router.from_file(path) as router:
        assert "Paris" in router.generate("What is the capital of France?").text
        assert threads_named("aichatfree-gateway")
        with pytest.raises(ValueError, match="built-in model"):
            router.to_dict()
    wait_until(lambda: not threads_named("aichatfree-"))


@pytest.mark.parametrize("key", ["dialect", "secret_env", "password_env"])
def test_the_built_in_model_has_no_secrets(tmp_path: Path, key: str) -> None:
    """What only a site needs is refused beside the base URL `local`."""
    path = written(tmp_path, f"[[site]]\nbase_url = 'local'\n{key} = 'openai'\n")
    with pytest.raises(ValueError, match=f"has no {key}"):
        Router.from_file(path)


def test_a_wrong_file_does_not_keep_the_built_in_model(tmp_path: Path) -> None:
    """If a site after the built-in model is wrong, the model ends with the error."""
    path = written(tmp_path, "[[site]]\nbase_url = 'local'\n[[site]]\nbase_url = 'a'\n")
    with pytest.raises(ValueError, match="site 2"):
        Router.from_file(path)
    wait_until(lambda: not threads_named("aichatfree-"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base_url = 'https://a'", "unknown key 'base_url'; use .*site"),
        ("", "has no sites"),
        ("site = 'https://a'", "has no sites"),
        ("[[site]", "is not a TOML file"),
        ("[[site]]\nbase_url='https://a'\nurl='x'", "site 1: unknown key 'url'; the keys are"),
        ("[[site]]\nbase_url='https://a'\n[[site]]\n", "site 2: base_url is missing"),
        ("[[site]]\nbase_url='https://a'\nsecret='x'", "name that with secret_env"),
        ("[[site]]\nbase_url='https://a'\npassword='x'", "name that with password_env"),
        ("[[site]]\nbase_url='https://a'\nsecret_env='NOT_SET'", "NOT_SET is not set"),
        ("[[site]]\nbase_url='https://a'\nsecret_env=1", "take a name, not int"),
        ("[[site]]\nbase_url='a'", "site 1: .*needs http://"),
        ("[[site]]\nbase_url='https://a'\ndialect='x'", "unknown dialect 'x'"),
        ("[[site]]\nbase_url='https://a'\nmodel=1", "model must be a str"),
        ("[[site]]\nbase_url='https://a'\nmax_requests_per_minute='x'", "must be a number"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """What is wrong in a file is a ValueError that names the file, the site and the key."""
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=words) as caught:
        Router.from_file(path)
    assert str(path) in str(caught.value)


def test_a_literal_secret_is_not_repeated(tmp_path: Path) -> None:
    """The error about a secret in the file does not contain it."""
    path = written(tmp_path, "[[site]]\nbase_url='https://a'\nsecret='s3cret'")
    with pytest.raises(ValueError, match="secret_env") as caught:
        Router.from_file(path)
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """A file that does not exist is a FileNotFoundError that names it."""
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        Router.from_file(tmp_path / "none.toml")
