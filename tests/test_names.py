"""Names of files, classes and trials are shown as they are; ~ is the home directory everywhere."""

import html.parser
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from support.paths import ROOT
from support.scored import scores

from unet_jax.data import storage
from unet_jax.errors import UserError
from unet_jax.explain.windows import read_numbers
from unet_jax.models.pretrained import weights
from unet_jax.plan import memory
from unet_jax.process import console as consoles
from unet_jax.process import streams
from unet_jax.report.blocks import Figure, Listing, Points, Report, Section, Words
from unet_jax.report.pages import to_html, to_markdown
from unet_jax.report.tables import Column, Table
from unet_jax.runs import logs
from unet_jax.studies import pages as study_pages

ODD = ("[red]", "[/x]", "a [bold]b[/bold]", ":smile:", "a\nb", "\x1b[31mred", "\udcff.png", "\\[x]")
SHOWN = tuple(name.replace("\n", "\\n").replace("\x1b", "\\x1b") for name in ODD)
SHOWN = tuple(name.replace("\udcff", "\\udcff") for name in SHOWN)


@pytest.mark.parametrize(("name", "shown"), [*zip(ODD, SHOWN, strict=True)], ids=ascii)
def test_the_console_shows_a_name_as_it_is(name, shown):
    with consoles.console.capture() as capture:
        consoles.console.print(f"runs/{name} is finished.")
        consoles.print_header(name, {"workdir": Path(f"/runs/{name}")})
        logs.print_scores(name, scores([[3, 1], [0, 2]], (name, "b")), (name, "b"))
    text = capture.get()
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[:4] == [f"runs/{shown} is finished.", shown, f"  workdir  /runs/{shown}", shown]
    assert f"│ {shown}" in text
    assert "\x1b" not in text


def test_so_does_a_terminal_with_a_bar(monkeypatch):
    options = {"force_terminal": True, "width": 100, "file": io.StringIO()}
    monkeypatch.setattr(consoles, "console", Console(markup=False, emoji=False, **options))
    monkeypatch.setattr(memory, "console", consoles.console)
    monkeypatch.setattr(memory, "assemble", lambda config: None)
    monkeypatch.setattr(memory, "compile_step", lambda experiment: None)
    monkeypatch.setattr(memory, "read_memory", lambda *_: None)
    assert consoles.follow([1, 2], "reading [red]x[/y] :smile:", 2) == [1, 2]
    memory.measure(None, "[red]net[/y] :smile:")
    text = options["file"].getvalue()
    assert "reading [red]x[/y] :smile:" in text
    assert "compiling the train step: [red]net[/y] :smile:" in text


def test_a_stream_writes_what_its_encoding_lacks():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as file:
        print("Wörter \udcff", file=streams._lasting(file), flush=True)
    with os.fdopen(reader) as read:
        assert read.read() == "W\\xf6rter \\udcff\n"


TEXTS = (
    "<script>alert(1)</script>",
    "a | b `c` **d** _e_ f_g __h__ [i](j) ![k](l) ~~m~~ $n$",
    "&lt; p < 0.05 & <!-- no",
    "# heading",
    "> quoted",
    "- point",
    "+ point",
    "two\nlines\n\n<img src=x onerror=alert(1)>",
    "back\\slash\\*",
    "```",
)


class Shown(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("text", TEXTS)
def test_reports_show_a_text_as_it_is(text):
    column = Column(text, ("name",))
    blocks = (
        Words(text),
        Points((text,)),
        Table((column, Column("b", ("b",))), [{"name": text, "b": "b"}], frozenset({0})),
        Listing(text, f"{text}\n```\nmore ~~~~ text"),
        Figure("figure", text, "<svg/>"),
    )
    report = Report(text, (text,), (Section(text, blocks),), ())
    plain = " ".join(text.split())
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for page, count in ((markdown.render(to_markdown(report)), 9), (to_html(report), 9)):
        shown = Shown(page)
        assert not {"script", "blockquote", "s"} & set(shown.tags)
        assert " ".join("".join(shown.words).split()).count(plain) >= count, page
        assert page.count("onerror=") == page.count("&lt;img src=x onerror=")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("unet_jax.main --mode=eval --workdir=~/none", "HOME/none/config.json does not exist"),
        ("unet_jax.main --config=~/page.py --workdir=~/r", "--config=HOME/page.py is no file"),
        ("experiments.sweep --study=~/page.py --workdir=~/s", "--study=HOME/page.py is no file"),
        ("experiments.report ~/none", "HOME/none holds neither study.json nor config.json"),
    ],
)
def test_home_is_found_by_every_command(home, tmp_path, line, says):
    env = os.environ | {"PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    line = [sys.executable, "-m", *line.split()]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert says.replace("HOME", str(home)) in done.stderr
    assert done.returncode == 2
    assert not (tmp_path / "~").exists()


def test_home_is_found_in_configs(home):
    (home / "page.py").write_text((ROOT / "configs" / "tiny.py").read_text())
    assert study_pages.make_config("~/page.py", {}).train.seed == 0
    (home / "x.txt").write_text("1 2")
    assert read_numbers("input", "~/x.txt").tolist() == [[1, 2]]
    assert storage.as_path("~/data", "config.data.path") == home / "data"
    with pytest.raises(UserError, match=r"config\.data\.path=~nobody-here/x: the home directory"):
        storage.as_path("~nobody-here/x", "config.data.path")
    with pytest.raises(UserError, match=r"config\.pretrained\.file=~nobody-here/x: the home"):
        weights.make_pretrained(file="~nobody-here/x", read_run=dict)


def test_one_word_stands_for_an_image():
    other, folders = "pict" + "ure", ("unet_jax", "experiments", "configs", "tests", "docs")
    old = {"convert.py", "test_convert.py", "sameness.py"}  # they read what older versions wrote
    files = [ROOT / "README.md", *(f for name in folders for f in (ROOT / name).rglob("*"))]
    files = [f for f in files if f.suffix in (".py", ".md", ".j2") and f.name not in old]
    files = [f for f in files if ROOT / "docs" / "studies" not in f.parents]  # as recorded
    assert len(files) > 300
    assert [f for f in files if other in f.read_text().lower()] == []
