"""A batch on Spark, in its local mode: the example, run as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aichatfree.testing import FakeSite
from helpers import LONG, ROOT, echo

pytest.importorskip("pyspark", reason='needs Spark: pip install ".[spark]"')

#: Seconds for the start of Java and of Python workers, and for the batch.
RUN = 4 * LONG

needs_java = pytest.mark.skipif(
    shutil.which("java") is None and "JAVA_HOME" not in os.environ,
    reason="needs Java 17 or later: apt-get install default-jre-headless",
)


@needs_java
@pytest.mark.timeout(RUN)
def test_the_example_runs(tmp_path: Path) -> None:
    """The example prints the answers in order; its workers run the Python that runs the example."""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("PYSPARK_PYTHON", None)
    # The Python that Spark finds by itself does not work.
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    with FakeSite(echo) as site:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "spark_batch.py")],
            env={**environment, "AICHATFREE_BASE_URL": site.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=RUN,
        )
    assert done.returncode == 0, done.stderr
    prompts = [f"Name a river that begins with {letter}." for letter in "ABCDEFGHIJ"]
    assert done.stdout.splitlines() == [f"{n} echo {prompt}" for n, prompt in enumerate(prompts)]
    assert sorted(request.text for request in site.requests) == prompts
