"""Exports that cannot be: one line before anything is written."""

import importlib.util

import numpy as np
import pytest
from support.predicting import draw, tree

from unet_jax.errors import UserError
from unet_jax.export import bioimageio, run
from unet_jax.export.run import export_run
from unet_jax.export.targets import Target
from unet_jax.task import MultiLabel


@pytest.fixture
def refuse(crop_run, tmp_path):
    """Returns a function that exports, and checks that nothing is written."""
    workdir, config = crop_run

    def export(says, formats, output="out", **given):
        before = tree(tmp_path)
        folder = output and str(tmp_path / output)
        with pytest.raises(UserError, match=says) as error:
            export_run(
                config, workdir, formats=formats, output=folder, checkpoint="latest", **given
            )
        assert "\n" not in str(error.value)
        assert tree(tmp_path) == before

    return export


def test_formats(refuse):
    refuse("allowed are stablehlo, onnx, safetensors, bioimageio, page", ["stablehlo", "keras"])
    refuse("--licence=CC-BY-4.0", ["bioimageio"])
    refuse("--output=FOLDER", ["stablehlo"], output=None)


def test_a_missing_extra_is_named(refuse, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    refuse(r"--format=onnx needs onnx.*pip install 'unet-jax\[export\]'", ["onnx"])


def test_a_page_without_what_runs_it(refuse, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PATH", "")  # and so without npm
    refuse("--runtime=FOLDER", ["stablehlo", "page"])
    refuse("--runtime=none has no ort", ["page"], runtime="none")
    refuse("--runtime=none is for --format=page", ["stablehlo"], runtime="none")


def test_a_model_that_no_page_can_show_is_refused_before_others_are_made(refuse, monkeypatch):
    monkeypatch.setattr(run, "read_runtime", lambda folder: {})
    make = run.bundle_of_run

    def of_classes_that_overlap(*given):
        bundle = make(*given)
        task = MultiLabel(bundle.class_names)
        return bundle._replace(network=bundle.network._replace(task=task))

    monkeypatch.setattr(run, "bundle_of_run", of_classes_that_overlap)
    monkeypatch.setitem(run.EXPORTERS, "safetensors", Target(lambda *_: pytest.fail("is made")))
    refuse("the run's overlap", ["safetensors", "page"])


def test_a_package_whose_test_label_would_be_0_everywhere(refuse, monkeypatch):
    label = {"label": np.zeros((3, 4), np.uint8)}
    monkeypatch.setattr(bioimageio.stablehlo, "make_program", lambda _: None)
    monkeypatch.setattr(bioimageio.stablehlo, "predict", lambda *_: label)
    refuse("another class than background.*--input=FILE", ["bioimageio"], licence="CC0-1.0")


def test_post_processing_that_is_left_out_is_told(crop_run, tmp_path, capsys):
    workdir, config = crop_run
    config = config.copy_and_resolve_references()
    given = {"formats": ["safetensors"], "output": str(tmp_path / "out"), "checkpoint": "latest"}
    export_run(config, workdir, **given)
    assert "cleaning" not in capsys.readouterr().out
    config.eval.metrics = {"cleaning": {"rules": ()}}
    export_run(config, workdir, **given, replace=True)
    assert "config.eval.metrics.cleaning is in no export" in capsys.readouterr().out


def test_an_output_that_is_not_empty(refuse, tmp_path):
    (tmp_path / "out" / "mine").mkdir(parents=True)
    refuse("is not empty", ["safetensors"])
    refuse("mine, which no export wrote", ["safetensors"], replace=True)


def test_replacing_replaces_exports_alone(crop_run, tmp_path):
    workdir, config = crop_run
    given = {"formats": ["safetensors"], "output": str(tmp_path / "out"), "checkpoint": "latest"}
    export_run(config, workdir, **given)
    (tmp_path / "out" / "safetensors" / "old").touch()
    export_run(config, workdir, **given, replace=True)
    names = {path.name for path in (tmp_path / "out" / "safetensors").iterdir()}
    assert names == {"model.safetensors", "load_torch.py", run.SUMS}


def test_examples(refuse, tmp_path):
    draw(*(tmp_path / f"{i}.png" for i in range(4)))
    refuse("4 images; 3 is the most", ["stablehlo"], inputs=[str(tmp_path)])


def test_volumes_have_no_bioimageio():
    with pytest.raises(UserError, match="stablehlo, onnx, safetensors have"):
        run._check_axes(["bioimageio"], 3)
    run._check_axes(["onnx"], 3)
