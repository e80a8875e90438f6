"""How Sphinx builds the site; ``nox -s docs`` does, without the network."""

from __future__ import annotations

import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.domains.python._object import PyObject

import aichatfree

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "aichatfree"
author = "the aichatfree developers"
project_copyright = "the aichatfree developers"
release = aichatfree.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_help",
    "llms_txt",
    "repository_files",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# A prompt is not part of a command, and output in the same block would be copied with it.
copybutton_prompt_text = "$ "

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

nitpicky = True
# Names of types that are not public; the text of each argument says what it takes.
nitpick_ignore = [
    *(("py:class", name) for name in ("ClientOptions", "PromptSource", "Retry", "TimeLimit")),
    *(("py:class", name) for name in ("PortableClient", "SiteClient")),
    ("py:class", "aichatfree.batch._worker.BatchClient"),
    *(("py:class", name) for name in ("End", "Framing", "RawEnd", "_Item")),
]
nitpick_ignore_regex = [
    # There is no inventory of other projects, because the site is built without the network.
    (
        "py:.*",
        r"(?:(?:collections|concurrent|os|pandas|pathlib|requests|tenacity|threading)\..*|Executor)",
    ),
]

highlight_language = "none"

html_theme = "furo"
html_title = "aichatfree"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


# Classes whose objects only the package itself makes.
MADE_BY_METHODS = ("aichatfree.Chat", "aichatfree.Stream", "aichatfree.batch.Batch")


def readable_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Show no constructor that is not for users, and a dialect by its name."""
    if name in MADE_BY_METHODS:
        return "", returns
    return (signature.replace(repr(aichatfree.GEMINI), "GEMINI"), returns) if signature else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", readable_signature)
    # IPython has a lexer for its cells, but is not installed for the build.
    app.add_lexer("ipython", TextLexer)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # not "Variables"
