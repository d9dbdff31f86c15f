"""Every number and mask of small runs against NumPy on the files and plain network calls."""

import itertools
import json

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from configs import folder as page
from experiments.truth.cases import FACTORS, all_cases, pairwise
from experiments.truth.check import check_case
from experiments.truth.recompute import bilinear, read_variables
from unet_jax.models.unet import UNet
from unet_jax.predict.run import predict_run
from unet_jax.runs.gallery import Gallery
from unet_jax.training import train_and_evaluate


def test_every_pair_of_two_values_is_among_the_cases():
    cases = pairwise()
    assert len(cases) < len(all_cases()) / 6
    for (i, first), (j, second) in itertools.combinations(enumerate(FACTORS.values()), 2):
        for values in itertools.product(first, second):
            assert any((case[i], case[j]) == values for case in cases)


def test_the_bilinear_samples_are_scipys():
    x = np.random.default_rng(0).normal(size=(7, 5, 2))
    rows, columns = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in ((10, 7), (3, 5)))
    where = np.meshgrid(rows, columns, indexing="ij")
    expected = [map_coordinates(x[..., k], where, order=1, mode="nearest") for k in range(2)]
    np.testing.assert_allclose(bilinear(x, (10, 3)), np.stack(expected, -1))


@pytest.mark.slow
@pytest.mark.parametrize("case", pairwise(), ids=lambda case: case.name)
def test_every_number_and_mask_is_the_truth(case, tmp_path, monkeypatch):
    for draw in ("draw", "draw_split"):  # figures take time, and others look at them
        monkeypatch.setattr(Gallery, draw, lambda *_, **__: None)
    assert check_case(case, tmp_path) == []


def vessels(seed):
    """Bright and dim lines on a noisy ground, 584x565 as in DRIVE."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:584, :565]
    label = np.zeros((584, 565), np.uint8)
    for _ in range(25):
        angle, reach = rng.uniform(0, np.pi), rng.uniform(1, 4)
        shift = rng.uniform(-300, 300)
        line = (rows - 292) * np.cos(angle) + (columns - 282) * np.sin(angle) - shift
        label[np.abs(line + 12 * np.sin(rows / 40)) < reach] = 1
    image = 70 + 70 * label[..., None] + rng.integers(0, 50, (584, 565, 3))
    return image.astype(np.uint8), label


def dice_of(pairs):
    """Micro Dice of class 1 over a split."""
    counts = [((p & t).sum(), p.sum(), t.sum()) for p, t in pairs]
    hit, guessed, true = np.sum(counts, 0)
    return 2 * hit / (guessed + true)


def test_dice_of_a_net_trained_on_crops_of_584x565(tmp_path):
    root, run = tmp_path / "data", tmp_path / "run"
    truths = {}
    for index in range(5):
        image, truths[str(index)] = vessels(index)
        for kind, array in (("images", image), ("masks", truths[str(index)])):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{index}.png", compress_level=1)
    (root / "train.txt").write_text("0\n1\n2\n")
    (root / "val.txt").write_text("3\n4\n")
    config = page.get_config()
    config.data.update({"path": str(root), "fit": "crop", "image_size": (64, 64), "crops": 20})
    config.model.features = (4, 8)
    config.mesh.data, config.eval.batch_size = 1, 1
    config.optim.update({"ema_decay": 0.0, "learning_rate": 0.02})
    once = {"eval_every": "40 steps", "checkpoint_every": "40 steps"}
    config.train.update({"batch_size": 6, "duration": "40 steps", **once})
    train_and_evaluate(config, run)
    predict_run(
        config,
        run,
        inputs=[str(root / "images" / f"{name}.png") for name in "34"],
        output=tmp_path / "masks",
        checkpoint="best",
    )
    found = json.loads((run / "results.json").read_text())["val"]["Dice/object"]
    assert found > 0.5  # it has learned
    masks = {name: np.array(Image.open(tmp_path / "masks" / f"{name}.png")) for name in "34"}
    assert found == pytest.approx(dice_of([(masks[n], truths[n]) for n in "34"]), abs=1e-12)
    model = UNet(2, **config.model)
    variables = read_variables(run / "checkpoints" / "40")
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    plain = {}
    for name in "34":
        image = np.array(Image.open(root / "images" / f"{name}.png"))
        padded = np.pad(image, ((0, 640 - 584), (0, 640 - 565), (0, 0)), mode="edge")
        x = (padded[None].astype(np.float32) / 255 - 0.5) / 0.25
        plain[name] = np.asarray(apply(x))[0, :584, :565].argmax(-1).astype(np.uint8)
    assert found == pytest.approx(dice_of([(plain[n], truths[n]) for n in "34"]), abs=1e-6)
