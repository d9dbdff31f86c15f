"""The file with StableHLO: against `--mode=predict`, damaged, old, renewed, kept."""

import datetime
import io
import json
import runpy
import sys

import jax
import numpy as np
import pytest
from support.paths import ROOT, VECTORS
from support.predicting import begin_run, spread

import unet_jax
from unet_jax.errors import UserError
from unet_jax.export import runner, stablehlo
from unet_jax.export.run import export_run, renew_export

SIZES = [(1, 1), (1, 40), (37, 53), (33, 32), (270, 101)]
NAMES = ["background", "disk", "square", "triangle", "ring", "cross"]
KEPT = VECTORS / "export_0_1_0.unet"


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(crop_run, tmp_path_factory):
    run, config = crop_run
    folder = tmp_path_factory.mktemp("stablehlo") / "out"
    export_run(config, run, formats=["stablehlo"], output=str(folder), checkpoint="latest")
    return folder / "stablehlo" / stablehlo.FILE


def test_labels_are_those_of_predict(crop_run, exported):
    model, run = runner.load(exported), unet_jax.load(crop_run[0], "latest")
    shown = set()
    for size in SIZES:
        image = noise(size)
        found = model(image)
        np.testing.assert_array_equal(found["label"], run.predict(image))
        assert found["probability"].shape == (*size, len(NAMES))
        np.testing.assert_allclose(found["probability"].sum(-1), 1, atol=1e-6)
        np.testing.assert_array_equal(found["probability"].argmax(-1), found["label"])
        shown |= set(np.unique(found["label"]))
    assert len(shown) > 2
    batch = np.stack([noise((9, 13), seed) for seed in range(3)])
    each = [model(image)["label"] for image in batch]
    np.testing.assert_array_equal(model(batch)["label"], each)


@pytest.mark.parametrize("kind", ["multilabel", "regions"])
def test_labels_of_other_tasks_of_resized_images(kind, run_config, tmp_path):
    config = run_config(fit="resize", normalise={"kind": "z_score", "of": "image"})
    config.task.kind = kind
    config.data.synthetic.by_class = kind == "multilabel"
    if kind == "regions":
        config.task.regions = (("any", (0, 1), 1), ("thing", (1,), 0))
    config.loss = {"cross_entropy": {"weight": 1.0}}
    run = begin_run(tmp_path / "run", config, change=spread)
    export_run(
        config, run, formats=["stablehlo"], output=str(tmp_path / "out"), checkpoint="latest"
    )
    model = runner.load(tmp_path / "out" / "stablehlo" / stablehlo.FILE)
    library, shown = unet_jax.load(run, "latest"), set()
    for size in SIZES[1:3]:
        image = noise(size)
        label = library.predict(image)
        np.testing.assert_array_equal(model(image)["label"], label)
        assert label.shape == ((*size, 5) if kind == "multilabel" else size)
        shown |= set(np.unique(label))
    assert len(shown) > 1


def test_a_changed_byte_anywhere_is_noticed(tmp_path):
    data = KEPT.read_bytes()
    places = {0, 1, len(data) - 1, len(data) - 64, *range(0, len(data), len(data) // 60)}
    file = tmp_path / "model.unet"
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(runner.ModelError, match="not as it was written") as error:
            runner.read(file)
        assert "\n" not in str(error.value)
    for wrong in (data[:-1], data[:100], b""):
        file.write_bytes(wrong)
        with pytest.raises(runner.ModelError, match="not as it was written"):
            runner.read(file)
        with pytest.raises(UserError, match="--renew="):
            stablehlo.renew(file)


def repack(file, to, change):
    """Changes parts of a file, and seals it again."""
    manifest, parts = runner.read(file)
    change(manifest, parts)
    to.write_bytes(stablehlo.seal({runner.MANIFEST: json.dumps(manifest).encode(), **parts}))
    return to


def test_an_old_file_says_how_to_renew(exported, tmp_path, capsys):
    date = str(datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=200))
    old = repack(exported, tmp_path / "old.unet", lambda manifest, _: manifest.update(date=date))
    runner.load(old)
    line = capsys.readouterr().err
    assert f"200 days ago ({date}, jax " in line
    assert f"--mode=export --renew={old} --output=FOLDER" in line
    runner.load(exported)
    assert not capsys.readouterr().err


def test_a_program_that_jax_cannot_read_says_how_to_renew(exported, tmp_path):
    def change(manifest, parts):
        parts[runner.PROGRAM] = b"\0" * 100
        manifest["parts"][runner.PROGRAM] = stablehlo.digest(parts[runner.PROGRAM])

    broken = repack(exported, tmp_path / "old.unet", change)
    with pytest.raises(runner.ModelError, match="cannot read its program") as error:
        runner.load(broken)
    assert f"--renew={broken}" in str(error.value)
    assert "\n" not in str(error.value)
    renew_export(broken, output=str(tmp_path / "new"))  # from config and weights
    assert runner.load(tmp_path / "new" / "stablehlo" / stablehlo.FILE)


def test_renewing_refuses_other_labels(exported, tmp_path):
    def change(manifest, parts):
        arrays = dict(np.load(io.BytesIO(parts[runner.EXAMPLES])))
        arrays["label_1"] = 1 - arrays["label_1"]
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        parts[runner.EXAMPLES] = stream.getvalue()
        manifest["parts"][runner.EXAMPLES] = stablehlo.digest(parts[runner.EXAMPLES])

    other = repack(exported, tmp_path / "other.unet", change)
    with pytest.raises(runner.ModelError, match="example 1 come out otherwise"):
        runner.load(other)
    with pytest.raises(UserError, match="labels of an image"):
        renew_export(other, output=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_images_of_another_kind_are_refused(exported, capsys):
    model = runner.load(exported, check=False)
    wrong = {
        "the type float32": np.zeros((8, 8, 3), np.float32),
        r"shape \(8, 8, 4\)": np.zeros((8, 8, 4), np.uint8),
        r"shape \(8, 8\)": np.zeros((8, 8), np.uint8),
        r"shape \(0, 8, 3\)": np.zeros((0, 8, 3), np.uint8),
    }
    for says, image in wrong.items():
        with pytest.raises(runner.ModelError, match=says):
            model(image)
    assert runner.main([str(exported.parent / "none.unet")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_runner_is_one_command(exported, tmp_path, capsys):
    np.save(tmp_path / "a.npy", noise((9, 7)))
    assert runner.main([str(exported), str(tmp_path / "a.npy")]) == 0
    expected = runner.load(exported)(noise((9, 7)))["label"]
    np.testing.assert_array_equal(np.load(tmp_path / "a_label.npy"), expected)
    assert runner.main([str(exported), str(tmp_path / "a.npy")]) == 2  # replaces nothing
    capsys.readouterr()
    assert runner.main([str(exported)]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["class_names"] == NAMES
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert len(manifest["colours"]) == len(NAMES)


def test_the_runner_needs_no_file_of_this_package(exported, monkeypatch):
    expected = runner.load(exported, check=False)(noise((9, 7)))
    for name in [name for name in sys.modules if name.split(".")[0] == "unet_jax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "unet_jax", None)  # importing it is an error
    found = runpy.run_path(runner.__file__)["load"](exported)(noise((9, 7)))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_file_tells_nothing_of_where_it_was_made(exported):
    manifest, parts = runner.read(exported)
    for data in (*parts.values(), json.dumps(manifest).encode()):
        assert str(ROOT).encode() not in data
        assert b"/unet_jax/" not in data


def test_a_file_of_an_earlier_version_is_read_and_renewed(command, tmp_path):
    manifest, parts = runner.read(KEPT)
    assert (manifest["version"], manifest["class_names"]) == (1, NAMES)
    if manifest["jax"] == jax.__version__:  # of later ones that is not promised
        assert runner.load(KEPT)
    done = command("--mode=export", f"--renew={KEPT}", f"--output={tmp_path / 'new'}")
    assert done.returncode == 0, done.stderr
    new = runner.load(tmp_path / "new" / "stablehlo" / stablehlo.FILE, check=False)
    examples = np.load(io.BytesIO(parts[runner.EXAMPLES]))
    for i in range(3):
        label = examples[f"label_{i}"]
        assert len(np.unique(label)) > 1
        np.testing.assert_array_equal(new(examples[f"image_{i}"])["label"], label)
