"""What docs and README say of the library, line by line, and the notebook."""

import ast
import gc
import json
import re
import types

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT
from support.predicting import draw, make_run

import unet_jax


@pytest.fixture
def small_shapes(tmp_path, monkeypatch):
    """Makes a small page of the name of a stock one, which comes first where it is."""
    assert unet_jax.open_page("shapes.py").data.source == "synthetic"  # the stock page
    page = (ROOT / "configs" / "tiny.py").read_text().replace('"train": 48', '"train": 8')
    page = page.replace('"40 steps"', '"2 steps"').replace("(32, 32)", "(64, 64)")
    (tmp_path / "shapes.py").write_text(page.replace('"size": 32', '"size": 64'))
    monkeypatch.chdir(tmp_path)


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)


def test_the_docs_page_line_by_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, checked = {}, 0
    for block in blocks("docs/library.md"):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            code, _, said = source.partition("  # ")
            if said:
                value = eval(compile(code, source, "eval"), names)
                assert repr(value) == said, source
                checked += 1
            else:
                exec(compile(source, source, "exec"), names)
    assert checked >= 19


def test_the_readmes_lines_run(small_shapes):
    (block,) = blocks("README.md")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (19, 23, 3), np.uint8)).save(
        "photo.jpg"
    )
    names = {}
    exec(compile(block.replace('"100 steps"', '"2 steps"'), "README.md", "exec"), names)
    assert unet_jax.load("runs/library").step == 2
    assert (names["mask"].shape, names["mask"].dtype) == ((19, 23), np.uint8)
    assert set(np.unique(names["mask"])) <= {*range(6)}


def test_the_lines_for_other_programs_run(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos" / "a.png", size=(20, 24))
    (tmp_path / "runs").mkdir()
    run = make_run(tmp_path_factory.getbasetemp() / "predicting")
    (tmp_path / "runs" / "pets").symlink_to(run)
    script, napari = blocks("docs/guide/other_programs.md")
    names = {}
    exec(script, names)
    assert list(names["shares"]) == ["a.png"]
    assert sum(names["shares"]["a.png"].values()) == pytest.approx(1)
    exec(napari, names)
    image = np.asarray(Image.open("photos/a.png"))
    added = {}
    layer = types.SimpleNamespace(data=image, name="a", scale=(1.0, 1.0))
    viewer = types.SimpleNamespace(
        layers=types.SimpleNamespace(selection=types.SimpleNamespace(active=layer)),
        add_labels=lambda data, name, scale: added.update({name: data}),
        add_image=lambda data, name, scale: added.update({name: data}),
    )
    names["add_mask"](viewer, names["run"])
    np.testing.assert_array_equal(added["a mask"], names["run"].predict(image))
    assert added["a sure"].shape == (20, 24)
    assert 1 / 6 <= added["a sure"].min() <= added["a sure"].max() <= 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_notebook_runs(small_shapes):
    notebook = json.loads((ROOT / "docs" / "tutorials" / "library.ipynb").read_text())
    names = {}
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        exec(compile(cell, cell, "exec"), names)
    gc.collect()  # files that cells leave open, as those of notebooks do, are closed here
    assert names["mask"].shape == (64, 64)
    assert names["same"].all()
    assert set(names["scores"]) >= {"IoU/disk", "IoU/square", "IoU/triangle"}
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 64


def test_the_notebooks_links_lead_to_pages():
    folder = ROOT / "docs" / "tutorials"
    text = (folder / "library.ipynb").read_text()
    links = re.findall(r"\]\(([^)]+\.md)\)", text)
    assert len(links) >= 4
    assert all((folder / link).is_file() for link in links)
