"""Volumes from end to end, by command: what comes out is what a plain network makes of them."""

import json

import numpy as np
import pytest
from PIL import Image
from support.plain import plain_logits

from unet_jax.config import load
from unet_jax.data.sources import open_data
from unet_jax.errors import MissingResultsError, UserError
from unet_jax.evaluate import evaluate_run
from unet_jax.predict.run import predict_run
from unet_jax.restore import restore

SIZE = 8, 12, 10  # of training
SMALL = (
    "data.synthetic.size=12",
    "data.synthetic.train=6",
    "data.synthetic.val=3",
    "data.synthetic.test=3",
    f"data.image_size={SIZE}",
    "model.features=(4,8)",
    "train.duration=6 steps",
    "train.eval_every=6 steps",
    "train.checkpoint_every=6 steps",
    "train.batch_size=2",
    "eval.batch_size=2",
    "mesh.data=1",
)


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes") / "run"
    values = [f"--config.{text}" for text in SMALL]
    done = command("--config=configs/volumes.py", f"--workdir={folder}", *values)
    assert done.returncode == 0, done.stderr
    return folder


def resized(values, size):
    """Resizes [*n, C] along each axis by a triangle as wide as what a pixel covers."""
    for axis, count in enumerate(size):
        moved = np.moveaxis(values, axis, 0)
        scale = len(moved) / count
        places = np.arange(len(moved)) + 0.5
        centres = (np.arange(count) + 0.5)[:, None] * scale
        weights = np.maximum(0, 1 - np.abs(places - centres) / max(1, scale))
        weights /= weights.sum(axis=1, keepdims=True)
        values = np.moveaxis(np.tensordot(weights, moved, 1), 0, axis)
    return values


def logits_of(trained, volume):
    """Returns the logits [*n, K] of one volume uint16 [*n, 1]."""
    small = np.rint(resized(volume.astype(np.float64), SIZE))
    return plain_logits(trained, small / 65535, volume.shape[:3])


def test_masks_are_those_of_a_plain_network(run, tmp_path):
    config, trained = load(run / "config.json"), restore(load(run / "config.json"), run, "best")
    source = open_data(**config.data)[0].splits["val"]
    drawn = source.read(0).image
    volumes = {"a": drawn, "b": drawn[:7, 2:, :5], "c": np.tile(drawn, (2, 1, 2, 1))[:21, :3]}
    for name, volume in volumes.items():
        np.save(tmp_path / f"{name}.npy", volume[..., 0] if name == "b" else volume)
    inputs, output = [str(tmp_path)], tmp_path / "out"
    predict_run(config, run, inputs=inputs, output=str(output), checkpoint="best")
    assert sorted(file.name for file in output.iterdir()) == [
        f"{name}{end}" for name in "abc" for end in (".npy", "_overlay.png")
    ]
    for name, volume in volumes.items():
        mask, logits = np.load(output / f"{name}.npy"), logits_of(trained, volume)
        assert mask.shape == volume.shape[:-1]
        assert mask.dtype == np.uint8
        first, second = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)[::-1]
        is_sure = first - second > 1e-3  # elsewhere rounding may decide
        assert is_sure.mean() > 0.98
        np.testing.assert_array_equal(mask[is_sure], logits.argmax(-1)[is_sure])
        with Image.open(output / f"{name}_overlay.png") as overlay:
            assert overlay.size == (volume.shape[2], volume.shape[1])


def test_scores_are_counted_on_the_masks(run, tmp_path):
    config = load(run / "config.json")
    evaluate_run(config, run, split="test", checkpoint="best")
    found = json.loads((run / "results.json").read_text())["test"]
    source = open_data(**config.data)[0].splits["test"]
    for index, name in enumerate(source.ids):
        np.save(tmp_path / f"{name}.npy", source.read(index).image)
    inputs, output = [str(tmp_path)], tmp_path / "out"
    predict_run(config, run, inputs=inputs, output=str(output), checkpoint="best")
    both, truth, guess = np.zeros((3, 6), int)
    for index, name in enumerate(source.ids):
        mask, label = np.load(output / f"{name}.npy"), source.read(index).label
        for t, p in zip(label.ravel(), mask.ravel(), strict=True):
            truth[t] += 1
            guess[p] += 1
            both[t] += t == p
    assert found["pixel_accuracy"] == pytest.approx(both.sum() / truth.sum())
    present = truth > 0
    iou = both[present] / (truth + guess - both)[present]
    assert found["mIoU"] == pytest.approx(iou.mean())
    assert (run / "figures").is_dir()


def test_images_of_another_kind_are_one_line(run, tmp_path):
    config = load(run / "config.json")
    Image.new("RGB", (12, 12)).save(tmp_path / "flat.png")
    np.save(tmp_path / "float.npy", np.zeros((12, 12, 12), np.float32))
    says = r"flat\.png has 2 axes, 3 channels of uint8, and what .* 3 axes, 1 channels of uint16; "
    inputs = [str(tmp_path / "flat.png")]
    with pytest.raises(UserError, match=says):
        predict_run(config, run, inputs=inputs, output=str(tmp_path / "x"), checkpoint="best")
    assert not (tmp_path / "x").exists()
    np.save(tmp_path / "good.npy", np.zeros((12, 12, 12), np.uint16))
    with pytest.raises(MissingResultsError, match=r"^2 of 3 images could not be read"):
        predict_run(
            config, run, inputs=[str(tmp_path)], output=str(tmp_path / "x"), checkpoint="best"
        )
    assert {f.name for f in (tmp_path / "x").iterdir()} == {"good.npy", "good_overlay.png"}
