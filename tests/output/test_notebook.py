"""``%%ask``, ``Stream.show()`` and the example notebook in a real Jupyter kernel."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from aichatfree.testing import Answer, FakeSite
from helpers import AT_ONCE, HANG, LONG, echo

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass
class Shown:
    """The output of a cell, as a front end sees it."""

    bundles: list[dict[str, Any]] = field(default_factory=list)
    displays: set[str] = field(default_factory=set)
    printed: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": ""})
    error: dict[str, Any] | None = None
    failed: bool = False

    @property
    def answers(self) -> list[str]:
        """The text of each drawing of an answer."""
        return [bundle["text/plain"] for bundle in self.bundles if "text/html" in bundle]

    def add(self, kind: str, content: dict[str, Any]) -> None:
        if kind in ("display_data", "update_display_data", "execute_result"):
            self.bundles.append(content["data"])
            self.displays.add(content.get("transient", {}).get("display_id", ""))
        elif kind == "stream":
            self.printed[content["name"]] += content["text"]
        elif kind == "error":
            self.error = content


class Notebook:
    """A kernel in which cells run one after the other."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self._client = manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LONG)

    def begin(self, code: str) -> str:
        return str(self._client.execute(code))

    def follow(self, cell: str) -> Iterator[Shown]:
        """Yield the output of the cell so far, after each message from the kernel."""
        shown = Shown()
        for message in self._about(cell, self._client.get_iopub_msg):
            content = message["content"]
            if content.get("execution_state") == "idle":
                break
            shown.add(message["msg_type"], content)
            yield shown
        reply = next(self._about(cell, self._client.get_shell_msg))
        shown.failed = reply["content"]["status"] != "ok"
        yield shown

    def _about(self, cell: str, get: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
        while True:
            message = get(timeout=LONG)
            if message["parent_header"].get("msg_id") == cell:
                yield message

    def run(self, code: str) -> Shown:
        *_, shown = self.follow(self.begin(code))
        return shown

    def value(self, expression: str) -> str:
        shown = self.run(f"print(({expression}))")
        assert not shown.failed, shown.error
        return shown.printed["stdout"].rstrip("\n")

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def close(self) -> None:
        self._client.stop_channels()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as sockets:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        # Sockets in the file system: another process could take the ports that it has chosen.
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        manager.start_kernel()
        try:
            cells = Notebook(manager)
            cells.run("import aichatfree\n%load_ext aichatfree")
            yield cells
            cells.close()
        finally:
            manager.shutdown_kernel()
            manager.cleanup_resources()


@pytest.fixture
def cells(kernel: Notebook) -> Notebook:
    """The kernel, without the variables of the previous test."""
    kernel.run("for name in ('client', 'chat', 'reply', 'talk'): globals().pop(name, None)")
    return kernel


def connect(cells: Notebook, site: FakeSite, settings: str = "retry=None") -> None:
    cells.run(f"client = aichatfree.Client({site.url!r}, {settings})")


def test_the_example_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Every cell of ``examples/quickstart.ipynb`` works unchanged with the local model."""
    example = nbformat.read(EXAMPLE, as_version=4)
    NotebookClient(example, timeout=2 * LONG, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in example.cells for output in cell.get("outputs", ())]
    assert len([output for output in outputs if "text/html" in output.get("data", {})]) == 7
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_the_example_has_no_outputs() -> None:
    """The example is stored without outputs, because a small model's answers are often wrong."""
    example = nbformat.read(EXAMPLE, as_version=4)
    assert not any(cell.get("outputs") for cell in example.cells)


def test_an_answer_is_shown_while_it_arrives(cells: Notebook) -> None:
    """The first chunk is shown before the site sends the second; both are in one output."""
    seen_first = threading.Event()

    def chunks() -> Iterator[str]:
        yield "**first**"
        yield " second" if seen_first.wait(LONG) else " too late"

    with FakeSite([Answer(stream=chunks())]) as site:
        connect(cells, site)
        for shown in cells.follow(cells.begin("%%ask\nHi")):
            if shown.answers:
                seen_first.set()
        assert site.requests[0].text == "Hi"
    assert (shown.answers[0], shown.answers[-1]) == ("**first**", "**first** second")
    assert len(shown.displays) == 1
    assert not shown.failed


def test_an_answer_is_sanitized(cells: Notebook) -> None:
    """Neither HTML nor terminal control sequences of a site reach the front end."""
    with FakeSite("<script>alert(1)</script> \x1b[31m") as site:
        connect(cells, site)
        shown = cells.run("%%ask\nHi")
    assert shown.bundles[-1] == {
        "text/html": "<p>&lt;script&gt;alert(1)&lt;/script&gt; \ufffd[31m</p>\n",
        "text/plain": "<script>alert(1)</script> \ufffd[31m",
    }
    assert not any("<script" in bundle["text/html"] for bundle in shown.bundles)
    assert not any("\x1b" in text for bundle in shown.bundles for text in bundle.values())


def test_the_output_option_keeps_the_reply(cells: Notebook) -> None:
    """-o stores the Reply in a variable; the system prompt and the temperature are sent."""
    with FakeSite("Hello") as site:
        connect(cells, site, "dialect='openai'")
        cells.run('%%ask -o reply --system "Be brief, don\'t ramble." --temperature 0.5\nHi\n\nyou')
        assert cells.value("type(reply).__name__, reply.text") == "('Reply', 'Hello')"
        body = site.requests[0].json
    assert body["temperature"] == 0.5
    assert [m["content"] for m in body["messages"]] == ["Be brief, don't ramble.", "Hi\n\nyou"]


def test_a_chat_keeps_the_conversation(cells: Notebook) -> None:
    """--chat sends the earlier messages with each question; deleting the variable starts again."""
    with FakeSite([echo]) as site:
        connect(cells, site, "dialect='openai'")
        for code in ("%%ask --chat --system Brief.\none", "%%ask --chat\ntwo", "%%ask\nthree"):
            assert not cells.run(code).failed
        cells.run("talk = chat; del chat")
        cells.run("%%ask --chat\nfour")
        asked = [[m["content"] for m in request.json["messages"]] for request in site.requests]
        assert cells.value("len(talk.messages), len(chat.messages)") == "(5, 2)"
    assert asked == [
        ["Brief.", "one"],
        ["Brief.", "one", "echo one", "two"],
        ["three"],
        ["four"],
    ]


def test_a_chat_may_name_its_client_again(cells: Notebook) -> None:
    """A second cell with the same --chat and --client continues the conversation."""
    with FakeSite([echo]) as site:
        cells.run(f"other = aichatfree.Client({site.url!r})")
        for question in ("one", "two"):
            assert not cells.run(f"%%ask --chat --client other\n{question}").failed
        assert cells.value("len(chat.messages)") == "4"


def test_without_a_client_the_environment_makes_one(cells: Notebook) -> None:
    """If there is no variable ``client``, it is created with the settings of the environment."""
    with FakeSite("Hello") as site:
        cells.run(f"%env AICHATFREE_BASE_URL={site.url}")
        assert cells.run("%%ask\nHi").answers == ["Hello"]
        cells.run("import os; del os.environ['AICHATFREE_BASE_URL']")
        assert cells.value("client") == f"Client({site.url!r}, dialect='gemini')"


def test_without_a_client_the_sites_of_a_file_make_one(cells: Notebook, tmp_path: Path) -> None:
    """If AICHATFREE_SITES names a file, ``client`` is a router over the sites in it."""
    path = tmp_path / "sites.toml"
    with FakeSite("Hello") as site:
        path.write_text(f'[[site]]\nbase_url = "{site.url}"\n')
        cells.run(f"%env AICHATFREE_SITES={path}")
        shown = cells.run("%%ask\nHi")
        assert shown.answers == ["Hello"]
        assert cells.value("type(client).__name__") == "Router"
        cells.run("del client")
        path.unlink()
        failed = cells.run("%%ask\nHi")
        cells.run("import os; del os.environ['AICHATFREE_SITES']")
    assert "UsageError" in failed.printed["stderr"]
    assert "sites.toml" in failed.printed["stderr"]


def test_a_misspelled_client_is_not_created(cells: Notebook) -> None:
    """--client with a name that does not exist fails and creates no variable."""
    assert cells.run("%%ask --client clinet\nHi").failed
    assert cells.value("{'client', 'clinet'} & set(globals())") == "set()"


WRONG_LINES = {
    "an empty question": ("%%ask\n   \n", "empty"),
    "an unknown option": ("%%ask --temprature 1\nHi", "--temprature"),
    "a temperature that is not a number": ("%%ask --temperature hot\nHi", "hot"),
    "an impossible temperature": ("%%ask --temperature nan\nHi", "temperature"),
    "an unclosed quotation": ("%%ask --system 'Hi\nHi", "quotation"),
    "an output that is not a name": ("%%ask -o 1st\nHi", "1st"),
    "an output that is a keyword": ("%%ask -o class\nHi", "class"),
    "the client as output": ("%%ask -o client\nHi", "different"),
    "a client that does not exist": ("%%ask --client clinet\nHi", "clinet does not exist"),
    "a client of the wrong type": ("%%ask --client number\nHi", "not a Client"),
    "a chat of the wrong type": ("%%ask --chat number\nHi", "not a Chat"),
    "a chat of another client": ("%%ask --chat chat --client other\nHi", "already has its client"),
    "a chat that %%ask did not start": ("%%ask --chat talk --client client\nHi", "already has"),
    "a variable that does not exist": ("%%ask\nWhere is {cuontry}?", "cuontry does not exist"),
    "a variable of the line that does not exist": ("%ask Is {cuontry}?", "cuontry does not exist"),
    "an option with such a variable": ("%%ask --system {cuontry}\nHi", "cuontry does not exist"),
    "an expression": ("%%ask\nAdd {number + 1}.", "number + 1 does not exist"),
    "a single brace": ("%%ask\nif (x) {", "{{ and }} for braces"),
    "an empty pair of braces": ("%%ask\nf() {}", "{{ and }} for braces"),
    "an empty line": ("%ask", "missing"),
    "an option of the line": ("%ask --chat Hi", "no options"),
    "a chat with another system prompt": ("%%ask --chat talk --system No\nHi", "another system"),
}


@pytest.mark.parametrize("what", WRONG_LINES)
def test_a_wrong_line_fails_before_anything_is_sent(cells: Notebook, what: str) -> None:
    """One line says what is wrong, the cell fails, and no variable has changed."""
    code, words = WRONG_LINES[what]
    with FakeSite("Hello") as site:
        connect(cells, site, "dialect='openai'")
        cells.run(f"number = 1; other = aichatfree.Client({site.url!r})")
        cells.run("%%ask --chat\nHi")
        cells.run("talk = client.chat('Yes.')")
        shown = cells.run(code)
        assert len(site.requests) == 1
        assert cells.value("number, type(client).__name__") == "(1, 'Client')"
    assert shown.failed
    assert re.fullmatch(rf"UsageError: .*{re.escape(words)}.*\n", shown.printed["stderr"])


def test_a_failed_answer_fails_the_cell(cells: Notebook) -> None:
    """An incomplete answer stays visible, the error is one line, and -o stores nothing."""
    with FakeSite(Answer("half ", "an answer", end="cut")) as site:
        connect(cells, site)
        shown = cells.run("%%ask -o reply --chat\nHi")
        assert cells.value("'reply' in globals(), chat.messages") == "(False, [])"
    assert shown.failed
    assert shown.answers[-1] == "half an answer"
    assert shown.error is not None
    assert shown.error["ename"] == "StreamInterruptedError"
    (line,) = shown.error["traceback"]
    assert line.startswith("StreamInterruptedError: The connection to 127.0.0.1")


def test_an_interrupt_stops_the_answer_and_nothing_else(cells: Notebook) -> None:
    """Interrupting the kernel closes the connection at once; client and chat can be used again."""
    with FakeSite([Answer("partly", "never", gap=HANG), echo]) as site:
        connect(cells, site)
        for shown in cells.follow(cells.begin("%%ask --chat -o reply\nHi")):
            if shown.answers and not site.requests[0].disconnected.is_set():
                cells.interrupt()
                assert site.requests[0].disconnected.wait(AT_ONCE)
        assert shown.failed
        assert shown.error is not None
        assert shown.error["ename"] == "KeyboardInterrupt"
        assert shown.error["traceback"] == ["KeyboardInterrupt: the answer was stopped"]
        assert shown.answers[-1] == "partly"
        assert cells.value("chat.messages, 'reply' in globals()") == "([], False)"
        assert cells.run("%%ask --chat\nagain").answers == ["echo again"]


def test_a_question_has_the_values_of_variables(cells: Notebook) -> None:
    """{name} is the value of a variable, in the question and in options; {{ and }} are braces."""
    with FakeSite("Hello") as site:
        connect(cells, site, "dialect='openai'")
        cells.run("""topic = 'the "sea"'; word = ["x", {"a": 2.5}]""")
        cells.run('%%ask --system "About {topic}."\n{word[1][a]:.2f} {word[0]} $topic\n{{"a": 1}}')
        cells.run("%ask Why {topic}")
        asked = [[m["content"] for m in request.json["messages"]] for request in site.requests]
    assert asked == [
        ['About the "sea".', '2.50 x $topic\n{"a": 1}'],
        ['Why the "sea"'],
    ]


@pytest.mark.parametrize(
    "question", ["What's the capital of France?", "Is it 'France'", "1 > 2 ??", "Who wrote {it}?"]
)
def test_a_line_can_be_asked(cells: Notebook, question: str) -> None:
    """%ask sends the rest of its line as it is, with quotation marks and question marks."""
    with FakeSite([echo]) as site:
        connect(cells, site)
        shown = cells.run(f"it = '{{it}}'\nif it:\n    %ask {question}\nlast = 1")
        assert [request.text for request in site.requests] == [question]
    assert shown.answers[-1] == f"echo {question}"
    assert len(shown.displays) == 1
    assert not shown.failed


def test_the_text_of_another_cell_magic_is_unchanged(cells: Notebook, tmp_path: Path) -> None:
    """A line like ``%ask Who?`` is text in a cell that another magic reads."""
    path = tmp_path / "text"
    cells.run(f"%%writefile {path}\n%ask Who is it?\n")
    assert path.read_text() == "%ask Who is it?\n"


def test_the_examples_of_the_help_work(cells: Notebook) -> None:
    """Each example in the help that ``%%ask?`` and ``%ask?`` show works when it is pasted."""
    cell, line = (
        cells.value(f"get_ipython().find_{kind}_magic('ask').__doc__") for kind in ("cell", "line")
    )
    examples = re.findall(r"^    (%%ask.*\n    .+)", cell, re.MULTILINE)
    examples += re.findall(r"^ +(%ask .+)", line, re.MULTILINE)
    assert len(examples) == 5
    with FakeSite([echo]) as site:
        connect(cells, site)
        for example in examples:
            assert not cells.run(re.sub(r"^    ", "", example, flags=re.MULTILINE)).failed


def test_show_displays_an_answer_from_code(cells: Notebook) -> None:
    """Stream.show() shows an answer like %%ask does, once, also as the last line of a cell."""
    with FakeSite(Answer("Hel", "lo")) as site:
        connect(cells, site)
        shown = cells.run("stream = client.stream('Hi')\nstream.show()")
        assert shown.answers[-1] == "Hello"
        assert len(shown.displays) == 1
        assert cells.value("stream.reply()") == "Hello"


def test_a_batch_shows_the_bar_of_notebooks(cells: Notebook) -> None:
    """The progress bar of a batch is a widget, and there are no warnings."""
    with FakeSite([echo]) as site:
        connect(cells, site)
        shown = cells.run("results = list(client.batch(['one', 'two']))")
    assert [bundle.keys() for bundle in shown.bundles] == [{"text/plain", WIDGET}]
    assert shown.printed == {"stdout": "", "stderr": ""}


def test_without_widgets_a_batch_shows_a_bar_of_text(cells: Notebook) -> None:
    """Without ipywidgets the progress bar is text, and there are no warnings."""
    without = "import sys, warnings\nsys.modules['ipywidgets'] = None\n"
    with FakeSite([echo]) as site:
        connect(cells, site)
        shown = cells.run(
            f"{without}with warnings.catch_warnings():\n    warnings.simplefilter('always')\n"
            "    results = list(client.batch(['one', 'two']))\n"
        )
        cells.run("del sys.modules['ipywidgets']")
    assert not shown.failed
    assert shown.bundles == []
    assert "2/2" in shown.printed["stderr"]
    assert "Warning" not in shown.printed["stderr"]
