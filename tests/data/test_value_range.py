"""`config.data.value_range`: what is black and what is white, where the type does not say it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax
from support.plain import plain_logits

import unet_jax
from unet_jax.augment.scale import to_unit
from unet_jax.config import load
from unet_jax.data.check import check as check_split
from unet_jax.data.folder import open_folder
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import read_loading
from unet_jax.defaults import page
from unet_jax.errors import UserError
from unet_jax.evaluate import evaluate_run
from unet_jax.experiment import assemble
from unet_jax.models.variants import section
from unet_jax.predict.run import predict_run
from unet_jax.restore import restore
from unet_jax.training import train_and_evaluate

SIZE = 9, 13
ONCE = {"eval_every": "40 steps", "checkpoint_every": "40 steps"}  # at the end
KINDS = {".png": ("uint16", (0, 4095)), ".npy": ("float32", (-1024, 3071))}  # 12 bits; CT


def save(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, array) if file.suffix == ".npy" else Image.fromarray(array).save(file)


def draw(size, suffix, seed):
    """Draws an image of one channel whose values are black, white and what lies between."""
    dtype, (black, white) = KINDS[suffix]
    image = np.random.default_rng(seed).integers(black, white + 1, size).astype(dtype)
    image.flat[:2] = black, white
    return image


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    """Returns the folder of a run, and the suffix of its images."""
    root, suffix = tmp_path_factory.mktemp("value_range"), request.param
    for seed, name in enumerate("abcd"):
        image = draw(SIZE, suffix, seed)
        save(root / "data" / "images" / f"{name}{suffix}", image)
        white = KINDS[suffix][1][1]
        save(root / "data" / "masks" / f"{name}.png", (image > white / 2).astype(np.uint8))
    for split, names in {"train": "a\nb", "val": "c", "test": "d"}.items():
        (root / "data" / f"{split}.txt").write_text(names)
    config = page(
        data={
            "source": "folder",
            "path": str(root / "data"),
            "image_size": SIZE,
            "value_range": KINDS[suffix][1],
            "folder": {"class_names": ("dark", "bright")},
        },
        model=section(features=(4, 8), repeats=(1,)),
        optim={"learning_rate": 1e-2},
        train={"duration": "40 steps", "batch_size": 2, "log_every": "1 step"} | ONCE,
        eval={"batch_size": 1},
        mesh={"data": 1},
    )
    config.eval.figures = False
    train_and_evaluate(config, root / "run")
    return root / "run", suffix


def unit_of(image, suffix):
    """Brings an image [h, w] to black 0 and white 1: float64 [h, w, 1]."""
    black, white = KINDS[suffix][1]
    return ((image.astype(np.float64) - black) / (white - black))[..., None]


def test_the_first_step_has_the_loss_of_its_equation(run):
    folder, suffix = run
    config = load(folder / "config.json")
    assert config.data.value_range == KINDS[suffix][1]
    experiment = assemble(config)
    state = experiment.init(jax.random.split(jax.random.key(config.train.seed))[0])
    order = {"batch_size": 2, "seed": config.train.seed, "start": 0, "stop": 1}
    [batch] = train_batches(experiment.dataset.splits["train"], experiment.loading, **order)
    x = np.stack([unit_of(image[..., 0], suffix) for image in batch["image"]])
    assert (x.min(), x.max()) == (0, 1)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    read = ((x - 0.5) / 0.25).astype(np.float32)
    model = experiment.model
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    logits, _ = apply(variables, read)
    chosen = np.take_along_axis(log_softmax(np.float64(logits), -1), batch["label"][..., None], -1)
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert line["train/loss"] == pytest.approx(-chosen.mean(), rel=1e-5)


def test_a_run_predicts_with_the_range_that_it_was_trained_with(run, tmp_path):
    folder, suffix = run
    config, image = load(folder / "config.json"), draw(SIZE, suffix, 7)
    black, white = KINDS[suffix][1]
    image[:3] = image[:3] * 1.2 - (200 if black else 0)  # outside, where nothing is cut
    assert image.max() > white
    save(tmp_path / f"x{suffix}", image)
    inputs, output = [str(tmp_path / f"x{suffix}")], tmp_path / "out"
    predict_run(config, folder, inputs=inputs, output=str(output), checkpoint="best")
    file = output / f"x{suffix}"
    mask = np.load(file) if suffix == ".npy" else np.asarray(Image.open(file))
    logits = plain_logits(restore(config, folder, "best"), unit_of(image, suffix), SIZE)
    is_sure = np.abs(logits[..., 0] - logits[..., 1]) > 1e-4
    assert is_sure.mean() > 0.98
    assert len(np.unique(mask)) == 2
    np.testing.assert_array_equal(mask[is_sure], logits.argmax(-1)[is_sure])
    loaded = unet_jax.load(folder)
    np.testing.assert_array_equal(loaded.predict(image), mask)
    inside = np.clip(image, black, white)
    same = loaded.predict(unit_of(inside, suffix)[..., 0], value_range=(0, 1))
    np.testing.assert_array_equal(same, loaded.predict(inside))


def test_the_range_is_part_of_what_a_run_is(run):
    folder, suffix = run
    config = load(folder / "config.json")
    config.data.value_range = ()
    says = r"config\.data\.value_range: \(-?\d+, \d+\) -> \(\)"
    with pytest.raises(UserError, match=says):
        evaluate_run(config, folder, split="test", checkpoint="best")
    assert (
        restore(load(folder / "config.json"), folder, "best").network.spec.value_range
        == (KINDS[suffix][1])
    )


@pytest.mark.parametrize(
    "value",
    [
        *((1,), (1, 1), (2, 1), (0, 1, 2), ("a", "b"), (None, 1), (False, True)),
        *(((0, 1), (2, 3)), (0, 1e-45), (-3e38, 3e38), (0, 10**400), (0.0, float("nan"))),
        *(5, "0, 1", None),
    ],
)
def test_what_is_no_range_is_one_line(value):
    with pytest.raises(UserError, match=r"config\.data\.value_range") as error:
        read_loading({"value_range": value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [(), (0, 4095), (-1024, 3071), (-0.5, 1e30), (0, 10**30)])
def test_what_is_a_range(value):
    found = read_loading({"value_range": value}).value_range
    assert found == tuple(map(float, value))
    if found:  # also of ints that are no int32
        unit = to_unit(jnp.array(value, jnp.float32), found)
        np.testing.assert_array_equal(unit, [0, 1])


def test_images_with_values_outside_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    for seed, name in enumerate("abcde"):
        image = draw(SIZE, ".npy", seed)
        image[3, 4] = {"b": -1024.5, "d": 4000}.get(name, 0)
        save(tmp_path / "images" / f"{name}.npy", image)
        save(tmp_path / "masks" / f"{name}.png", np.eye(*SIZE, dtype=np.uint8))
    (tmp_path / "train.txt").write_text("a\nb\nc\nd")
    (tmp_path / "val.txt").write_text("e")
    splits = open_folder(str(tmp_path), 0.5, 0, class_names=("x", "y")).splits

    def said(split, *value_range):
        check_split(splits[split], split, 2, *value_range)
        return " ".join(capsys.readouterr().out.split())

    for _ in range(2):  # also where the files have passed before
        text = said("train", (-1024.0, 3071.0))
        assert text.startswith("2 of the 4 images of the train split have values outside of -1024")
        assert "theirs are from -1024.5 to 4000: " in text
        files = [f"{tmp_path / 'images' / name}.npy" for name in "bd"]
        assert text.endswith(", ".join(files))
        assert said("val", (-1024.0, 3071.0)) == ""
    assert said("train", (-1025.0, 4000.0)) == ""
    assert said("train").startswith(
        "4 of the 4 images of the train split have values outside of 0 "
    )


def test_the_user_is_told_at_the_start_of_a_run(run, tmp_path, capsys):
    config = load(run[0] / "config.json")
    config.data.value_range, config.train.duration = (0, 1000), "1 step"
    config.eval.figures = False
    train_and_evaluate(config, tmp_path / "run")
    text = " ".join(capsys.readouterr().out.split())
    assert "2 of the 2 images of the train split have values outside of 0 to 1000, the" in text
    assert "1 of the 1 images of the val split have values outside of 0 to 1000, the" in text
