"""The rules of ``ARCHITECTURE.md`` for imports, and for what is private, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import aichatfree
from helpers import run_python

PACKAGE = Path(aichatfree.__file__).parent

# From the top to the bottom: a module imports only from the layers below its own, and from its own
# package. "" is the package itself, whose names are imported when they are used.
LAYERS: list[set[str]] = [
    {"__main__", "llm_plugin"},
    {"_cli"},
    {""},
    {"notebook"},
    {"router"},
    {"client", "_sites_file"},
    {"_local"},
    {"batch", "chat", "gateway", "health", "testing"},
    {"_routing"},
    {"_requester"},
    {"_prompt_sender"},
    {"_rate_limiter", "_settings", "_signing_clock", "stream"},
    {"_adaptive_rate", "_output", "_slot_queue", "_wire", "retry"},
    {"_protocol"},
    {"_call"},
    {"timeout"},
    {"_initial_window", "_outage", "_prompt_rejections"},
    {"_arguments", "_cancellation", "_thread_cache"},
    {"_forks", "_locks"},
    {"_extras", "_version", "errors"},
]
LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}

#: What a pure protocol has no use for.
IO_LIBRARIES = {
    *("asyncio", "httptools", "io", "os", "pathlib", "requests", "select", "selectors", "socket"),
    *("ssl", "subprocess", "tempfile", "threading", "urllib3"),
}


#: Private attributes of libraries, each of which needs an upper bound on the library's version.
OF_LIBRARIES = {
    "_wire.connecting": {"_prepare_proxy", "_validate_conn"},  # urllib3
    "gateway._server": {"_replace"},  # aiohttp's named tuples, where it is not private
}


def dotted_name(path: Path) -> str:
    """The name of a module within the package: "" for the package itself, "batch._journal"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {dotted_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def syntax_tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def imported_from(module: str, node: ast.ImportFrom) -> str | None:
    """The module named in ``from ... import``, or None if it is not in the package."""
    if node.level == 0:
        name = node.module or ""
        return None if name.split(".")[0] != "aichatfree" else name.partition(".")[2]
    package = module.split(".") if PATHS[module].name == "__init__.py" else module.split(".")[:-1]
    parents = package[: len(package) - (node.level - 1)]
    return ".".join([*parents, *([node.module] if node.module else [])]).strip(".")


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the package that a module imports, wherever the statement stands.

    Imports in functions and for type checkers are included: they are dependencies too.
    """
    found: set[str] = set()
    for node in ast.walk(syntax_tree(module)):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".") for alias in node.names]
            found |= {rest for package, _, rest in names if package == "aichatfree"}
        elif isinstance(node, ast.ImportFrom):
            source = imported_from(module, node)
            if source is not None:
                submodules = {f"{source}.{alias.name}".strip(".") for alias in node.names}
                found |= submodules & set(PATHS) or {source}
    return frozenset(found)


def top(module: str) -> str:
    return module.split(".")[0]


def test_every_module_has_a_layer() -> None:
    """Each module of the package, or the package that it is in, is in the list of layers."""
    assert {top(module) for module in PATHS} <= set(LAYER)


@pytest.mark.parametrize("module", list(PATHS))
def test_imports_point_downwards(module: str) -> None:
    """A module imports only its own package and modules in layers below it."""
    upwards = {
        imported
        for imported in imports(module)
        if top(imported) != top(module) and LAYER[top(imported)] <= LAYER[top(module)]
    }
    assert not upwards


def test_the_import_graph_has_no_cycle() -> None:
    """No module imports itself through others, not even in a function or for type checkers."""
    try:
        TopologicalSorter({module: imports(module) for module in PATHS}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_child_processes_import_the_tested_package() -> None:
    """A child process of a test imports the same package as the test, wherever it is started."""
    done = run_python("import aichatfree; print(aichatfree.__file__)")
    assert done.stdout.strip() == aichatfree.__file__


@pytest.mark.parametrize("module", [name for name in PATHS if top(name) == "_protocol"])
def test_the_protocol_does_no_io(module: str) -> None:
    """The modules of ``_protocol`` import no library for files, sockets, HTTP or threads."""
    imported: set[str] = set()
    for node in ast.walk(syntax_tree(module)):
        if isinstance(node, ast.Import):
            imported |= {top(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(top(node.module or ""))
    assert not imported & IO_LIBRARIES


# --- what is private --------------------------------------------------------------------------


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def own_names(tree: ast.Module) -> set[str]:
    """The names that a module defines: of its functions, classes, variables and attributes."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if is_self(node.value) else set()
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_accesses(module: str) -> Iterator[str]:
    tree = syntax_tree(module)
    allowed = own_names(tree) | OF_LIBRARIES.get(module, set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            # Another instance of a class of the same module is not foreign.
            if not is_self(node.value) and node.attr not in allowed:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and imported_from(module, node) is not None:
            source = imported_from(module, node)
            for alias in node.names:
                if is_private(alias.name) and f"{source}.{alias.name}".strip(".") not in PATHS:
                    yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("module", list(PATHS))
def test_no_module_uses_what_is_private_in_another(module: str) -> None:
    """A module uses no attribute or name with a leading underscore that another one defines."""
    assert list(private_accesses(module)) == []
