from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from aichatfree._cli.main import cli

SCRIPTS = Path(sysconfig.get_path("scripts"))


def ask_shell(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environment, "PATH": path},
    )


def complete(shell: str, *words: str) -> list[str]:
    """What the shell is told when Tab is pressed after the last of these words."""
    typed = ["aichatfree", *words]
    at = words[-1] if shell == "fish" else str(len(words))
    told = ask_shell(
        "aichatfree",
        _AICHATFREE_COMPLETE=f"{shell}_complete",
        COMP_WORDS=" ".join(typed),
        COMP_CWORD=at,
    )
    return re.split(r"[,\t\n]", told.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["as"], {"ask"}),
        (["batch", "--wor"], {"--workers"}),
        (["ask", "--dialect", ""], {"gemini", "openai"}),
        (["check", "--dialect", "op"], {"openai"}),
        (["batch", "prom"], {"file"}),
        (["batch", "prompts.txt", "-o", "ans"], {"file"}),
    ],
)
def test_tab_completes(shell: str, words: list[str], offered: set[str]) -> None:
    """Commands, options, their values and files, in each shell."""
    told = complete(shell, *words)
    assert offered <= set(told)
    assert not {"chat", "serve"} & set(told)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_the_startup_file_is_in_the_help(shell: str) -> None:
    """What the shell is to run prints a function that completes."""
    line = f"_AICHATFREE_COMPLETE={shell}_source aichatfree"
    assert line in (cli.help or "")
    assert "_aichatfree_completion" in ask_shell("bash", "--norc", "-c", line).stdout


def test_bash_takes_the_line_of_the_help() -> None:
    """After it, Tab in a real bash gives the commands that begin so."""
    line = re.search(r"eval .*# bash", cli.help or "")
    assert line is not None
    presses_tab = "COMP_WORDS=(aichatfree ch); COMP_CWORD=1; _aichatfree_completion aichatfree"
    script = f'{line[0]}\n{presses_tab}\necho "${{COMPREPLY[@]}}"'
    assert ask_shell("bash", "--norc", "-c", script).stdout == "chat check\n"


def test_completion_does_not_wait_for_the_network_libraries() -> None:
    """Tab answers before they could have been imported."""
    told = ask_shell(
        sys.executable,
        "-X",
        "importtime",
        str(SCRIPTS / "aichatfree"),
        _AICHATFREE_COMPLETE="bash_complete",
        COMP_WORDS="aichatfree as",
        COMP_CWORD="1",
    )
    assert told.stdout == "plain,ask\n"
    assert "click" in told.stderr
    assert not re.search(r"\b(requests|urllib3|tenacity|tqdm)\b", told.stderr)
