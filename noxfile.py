"""Every check of this project: ``nox`` runs the short ones, ``nox -l`` lists them all."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
ROOT = Path(__file__).parent
DIST = ROOT / "dist"

nox.needs_version = ">= 2026.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "types", "docs"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style and the format of the code."""
    session.install("-e.[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types for every supported Python, and that the public API is typed completely."""
    session.install("-e.[dev]")
    for version in PYTHONS:
        session.run("mypy", "--python-version", version)
        session.run("pyright", "--pythonversion", version, "tests/typing_of_public_api.py")
    # pyright does not follow the import hook of an editable installation.
    checkout = {"PYTHONPATH": str(ROOT)}
    session.run("pyright", "--verifytypes", "aichatfree", "--ignoreexternal", env=checkout)


def run_tests(session: nox.Session, *command: str) -> None:
    """Run the tests; on CI a failure counts if the test fails alone, too.

    Some tests measure time, and fail when the machine is busy with others. Both runs are printed.
    """
    failed = Path(".pytest_cache/failed")  # tests/conftest.py writes it on CI
    failed.unlink(missing_ok=True)
    try:
        session.run(*command, *session.posargs)
    except nox.command.CommandFailed:
        if not failed.exists() or not failed.read_text(encoding="utf-8"):
            raise
        session.run(*command, "-n", "0", f"@{failed}")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, or those that are named: ``nox -s tests-3.13 -- tests/wire -n 0``."""
    session.install("-e.[test]")
    run_tests(session, "pytest")


@nox.session(python=PYTHONS[3])  # the first on which measuring branches costs next to nothing
def coverage(session: nox.Session) -> None:
    """Run the tests and report the lines and branches that none of them reached."""
    session.install("-e.[test]", "coverage >= 7.13")
    session.run("coverage", "erase")
    run_tests(session, "coverage", "run", "-m", "pytest")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it, and check what an index would reject."""
    shutil.rmtree(DIST, ignore_errors=True)
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", str(DIST))
    session.run("twine", "check", "--strict", *map(str, DIST.iterdir()))


@nox.session(python=PYTHONS, requires=["build"])
@nox.parametrize("suffix", ["whl", "tar.gz"], ids=["wheel", "sdist"])
def installed(session: nox.Session, suffix: str) -> None:
    """Install what was built, and run the sdist's tests where no other copy is to be found."""
    (archive,) = DIST.glob(f"*.{suffix}")
    session.install(f"aichatfree[test] @ {archive.as_uri()}")
    (sdist,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as members:
            members.extractall(folder, filter="data")
        source = Path(folder, sdist.name.removesuffix(".tar.gz"))
        shutil.rmtree(source / "aichatfree")
        with session.chdir(source):
            run_tests(session, "pytest")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, and check that every link within the repository leads somewhere."""
    session.install("-e.[docs]")
    # A link that leads nowhere is a warning, and so is a type that the reference does not have.
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--fresh-env", "--quiet"]
    session.run("sphinx-build", *strict, "docs", "docs/_build")
    check_links(session)  # also of the files that are not pages of the site


def check_links(session: nox.Session) -> None:
    listed = session.run("git", "ls-files", "*.md", external=True, silent=True)
    broken = [
        f"{page}: {target}"
        for page in map(Path, str(listed).split())
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not link_leads_somewhere(page, target)
    ]
    if broken:
        session.error("These links lead nowhere: " + ", ".join(broken))


def link_leads_somewhere(page: Path, target: str) -> bool:
    file, _, heading = target.partition("#")
    page = page.parent / file if file else page
    return page.exists() and (not heading or heading in headings(page))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings: in lower case, with dashes for spaces."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure this package beside its peers: minutes, on a machine with nothing else to do."""
    session.install("-e.[test,bench]")
    session.run("python", "-m", "benchmarks", *session.posargs or ["--quick"])
