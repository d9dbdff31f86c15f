"""Exports that cannot be: one line before anything is written."""

import importlib.util

import pytest
from support.predicting import draw, tree

from unet_jax.errors import UserError
from unet_jax.export.run import export_run


@pytest.fixture
def refuse(crop_run, tmp_path):
    """Returns a function that exports, and checks that nothing is written."""
    run, config = crop_run

    def export(says, formats, output="out", **given):
        before = tree(tmp_path)
        folder = output and str(tmp_path / output)
        with pytest.raises(UserError, match=says) as error:
            export_run(config, run, formats=formats, output=folder, checkpoint="latest", **given)
        assert "\n" not in str(error.value)
        assert tree(tmp_path) == before

    return export


def test_formats(refuse):
    refuse("allowed are stablehlo, onnx, safetensors, bioimageio", ["stablehlo", "keras"])
    refuse("--licence=CC-BY-4.0", ["bioimageio"])
    refuse("--output=FOLDER", ["stablehlo"], output=None)


def test_a_missing_extra_is_named(refuse, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    refuse(r"--format=onnx needs onnx.*pip install 'unet-jax\[export\]'", ["onnx"])


def test_an_output_that_is_not_empty(refuse, tmp_path):
    (tmp_path / "out" / "mine").mkdir(parents=True)
    refuse("is not empty", ["safetensors"])
    refuse("mine, which no export wrote", ["safetensors"], replace=True)


def test_replacing_replaces_exports_alone(crop_run, tmp_path):
    run, config = crop_run
    given = {"formats": ["safetensors"], "output": str(tmp_path / "out"), "checkpoint": "latest"}
    export_run(config, run, **given)
    (tmp_path / "out" / "safetensors" / "old").touch()
    export_run(config, run, **given, replace=True)
    names = {path.name for path in (tmp_path / "out" / "safetensors").iterdir()}
    assert names == {"model.safetensors", "load_torch.py"}


def test_examples(refuse, tmp_path):
    draw(*(tmp_path / f"{i}.png" for i in range(4)))
    refuse("4 images; 3 is the most", ["stablehlo"], inputs=[str(tmp_path)])


def test_volumes_have_no_bioimageio():
    from unet_jax.export.run import _check_axes

    with pytest.raises(UserError, match="stablehlo, onnx, safetensors have"):
        _check_axes(["bioimageio"], 3)
    _check_axes(["onnx"], 3)
