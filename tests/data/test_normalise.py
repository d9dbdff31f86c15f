"""`config.data.normalise`: what a network reads, against NumPy on the files' own pixels."""

import json

import jax
import numpy as np
import pytest
from support.plain import plain_logits

import unet_jax
from unet_jax.augment.make import make_augment
from unet_jax.augment.scale import standardise
from unet_jax.config import load
from unet_jax.data.folder import open_folder
from unet_jax.data.normalise import KINDS, make_normalise
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import make_spec
from unet_jax.data.statistics import find_ends
from unet_jax.defaults import page
from unet_jax.errors import UserError
from unet_jax.evaluate import evaluate_run
from unet_jax.experiment import assemble
from unet_jax.models.variants import section
from unet_jax.predict.eval_step import make_mask_step
from unet_jax.predict.run import predict_run
from unet_jax.predict.values import OtherValues
from unet_jax.restore import restore
from unet_jax.studies.pack.train import Remembered
from unet_jax.training import train_and_evaluate

SIZES = {"a": (9, 13), "b": (5, 7), "c": (17, 4), "v": (11, 3), "t": (1, 21)}
TRAIN = "abc"
WAYS = [
    ("range", "train"),
    *((kind, of) for kind in KINDS if kind != "range" for of in ("train", "image")),
]


def draw(name, dtype, channels):
    """Draws an image [h, w, C], each channel with a scale of its own, the last one constant."""
    rng = np.random.default_rng(ord(name))
    image = rng.gamma(2.0, 1.0, (*SIZES[name], channels)) * (np.arange(channels) + 1) * 7
    if dtype == "float32":
        image = image - 30
    if channels > 1:
        image[..., -1] = 3
    return image.astype(dtype)


def make_set(root, dtype, channels):
    """Writes a data set, with an ignored half of each mask; returns its images by name."""
    images = {name: draw(name, dtype, channels) for name in SIZES}
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name, image in images.items():
        np.save(root / "images" / f"{name}.npy", image)
        mask = (image[..., 0] > np.median(image[..., 0])).astype(np.uint8)
        mask[: len(mask) // 2] = 7
        np.save(root / "masks" / f"{name}.npy", mask)
    for split, names in {"train": "a\nb\nc", "val": "v", "test": "t"}.items():
        (root / f"{split}.txt").write_text(names)
    return images


def read_by_network(image, images, kind, of):
    """Says what a network reads of an image: float64 [h, w, C]."""
    out = np.zeros(image.shape)
    for c in range(image.shape[-1]):
        x = image[..., c].astype(np.float64)
        pool = x if of == "image" else np.concatenate([images[n][..., c].ravel() for n in TRAIN])
        pool = pool.astype(np.float64)
        if pool.min() == pool.max() and kind != "range":
            out[..., c] = (x - pool.min()) * 4  # nothing to divide by: it is grey
        elif kind == "z_score":
            out[..., c] = (x - pool.mean()) / pool.std()
        else:
            low, high = {
                "range": (0, np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1),
                "min_max": (pool.min(), pool.max()),
                "percentiles": tuple(np.percentile(pool, (0.5, 99.5))),
            }[kind]
            unit = (x - low) / (high - low)
            out[..., c] = 4 * (np.clip(unit, 0, 1) if kind == "percentiles" else unit) - 2
    return out


def config_of(root, kind, of, **data):
    return page(
        data={
            "source": "folder",
            "path": str(root),
            "image_size": (9, 13),
            "fit": "crop",
            "normalise": {"kind": kind, "of": of},
            "folder": {"class_names": ("dark", "bright"), "ignore_values": (7,)},
            **data,
        },
        model=section(features=(4, 8), repeats=(1,)),
        train={"duration": "2 steps", "batch_size": 2, "log_every": "1 step"},
        eval={"batch_size": 2},
        mesh={"data": 1},
    )


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 7), ("float32", 4)])
@pytest.mark.parametrize(("kind", "of"), WAYS)
def test_train_and_prediction_read_what_numpy_says(
    tmp_path, monkeypatch, kind, of, dtype, channels
):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    images = make_set(tmp_path, dtype, channels)
    experiment = assemble(config_of(tmp_path, kind, of))
    source, loading = experiment.dataset.splits["train"], experiment.loading
    order = {"batch_size": 3, "seed": 0, "start": 0, "stop": 1}
    [batch] = train_batches(source, loading, **order)
    spec, how = experiment.network.spec, loading.normalise
    augment = make_augment({}, how.value_range(spec), cuts=how.cuts, is_bounded=how.is_bounded)
    found = augment(batch["image"], batch["label"], batch["weight"], jax.random.key(0))[0]
    found = np.asarray(standardise(found))
    assert batch["image"].dtype == ("float32" if of == "image" else dtype)
    expected = {n: read_by_network(images[n], images, kind, of) for n in images}
    scale = max(np.abs(x).max() for x in expected.values())
    whole = [n for n in TRAIN if SIZES[n][0] <= 9 and SIZES[n][1] <= 13]
    for name in whole:  # smaller than the crop: in its corner, the edge repeated
        h, w = SIZES[name]
        rows = [row for row in found if np.abs(row[:h, :w] - expected[name]).max() < 1e-5 * scale]
        assert len(rows) == 1
    # What prediction gives to the network, of canvases of other sizes in batches of two.
    seen = []
    step = make_mask_step(experiment.network)
    monkeypatch.setattr(type(step._model), "apply", lambda self, v, x, train: seen.append(x) or x)
    for index, name in enumerate(source.ids):
        shape = experiment.dataset.splits["train"].shape(index)
        canvas = step.fit.canvas(shape)
        image = step.fit.put(how.prepare(source.read(index).image), canvas)
        step.apply({}, image[None], np.array([shape], np.float32), canvas)
        h, w = shape
        np.testing.assert_allclose(
            np.asarray(seen[-1])[0, :h, :w], expected[name], rtol=1e-5, atol=1e-5 * scale
        )


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]
)
def test_statistics_of_the_training_split_are_those_of_all_its_pixels(tmp_path, monkeypatch, dtype):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    rng, pool = np.random.default_rng(3), []
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in "abcdefg":
        size = tuple(rng.integers(1, 40, 2))
        bits = rng.integers(0, 256, (*size, 2, np.dtype(dtype).itemsize), np.uint8)
        image = bits.view(dtype)[..., 0]
        if dtype == "float32":  # of all sizes and signs
            image = (rng.normal(size=(*size, 2)) * 10.0 ** rng.integers(-3, 4, (*size, 2))).astype(
                dtype
            )
        np.save(tmp_path / "images" / f"{name}.npy", image)
        np.save(tmp_path / "masks" / f"{name}.npy", np.zeros(size, np.uint8))
        pool += [image.reshape(-1, 2)] * (name != "g")
    (tmp_path / "val.txt").write_text("g")
    train = open_folder(str(tmp_path), 0.1, 0, class_names=("x", "y")).splits["train"]
    pool = np.concatenate(pool).astype(np.float64)
    expected = {
        "min_max": (pool.min(0), pool.max(0)),
        "z_score": (pool.mean(0) - 2 * pool.std(0), pool.mean(0) + 2 * pool.std(0)),
        "percentiles": np.percentile(pool, (3, 97.7), axis=0),
    }
    for kind, (black, white) in expected.items():
        how, found = make_normalise(kind, "train", (3, 97.7)), []
        for cores in (1, 5):
            monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
            monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / f"cache_{cores}"))
            found.append(find_ends(train, how))
        assert found[0] == found[1]
        np.testing.assert_allclose(found[0][0], black, rtol=1e-12)
        np.testing.assert_allclose(found[0][1], white, rtol=1e-12)
        monkeypatch.setattr(train, "read", None)  # what is remembered is not read again
        assert find_ends(train, how) == found[0]
        monkeypatch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run with two channels of uint16, and its images."""
    root = tmp_path_factory.mktemp("normalise")
    images = make_set(root / "data", "uint16", 2)
    config = config_of(root / "data", "z_score", "train", fit="resize")
    config.train.duration, config.optim.learning_rate = "40 steps", 0.03
    config.train.eval_every = config.train.checkpoint_every = "40 steps"
    config.eval.figures = False
    train_and_evaluate(config, root / "run")
    return root / "run", images


def test_a_run_predicts_with_the_numbers_that_it_keeps(run, tmp_path, monkeypatch):
    folder, images = run
    config = load(folder / "config.json")
    kept = folder / "statistics.json"

    def never(*args):
        raise AssertionError("statistics are computed anew")

    monkeypatch.setattr("unet_jax.experiment.find_ends", never)
    image = draw("a", "uint16", 2)[:, ::-1] * 2
    np.save(tmp_path / "x.npy", image)
    args = {"inputs": [str(tmp_path / "x.npy")], "checkpoint": "best"}
    predict_run(config, folder, output=str(tmp_path / "out"), **args)
    mask = np.load(tmp_path / "out" / "x.npy")
    unit = read_by_network(image, images, "z_score", "train") / 4 + 0.5
    logits = plain_logits(restore(config, folder, "best"), unit, image.shape[:2])
    is_sure = np.abs(logits[..., 0] - logits[..., 1]) > 1e-4
    assert is_sure.mean() > 0.9
    np.testing.assert_array_equal(mask[is_sure], logits.argmax(-1)[is_sure])
    np.testing.assert_array_equal(unet_jax.load(folder).predict(image), mask)
    evaluate_run(config, folder, split="test", checkpoint="best")
    (folder / "results.json").unlink()
    train_and_evaluate(config, folder)  # goes on
    numbers = json.loads(kept.read_text())
    ends = restore(config, folder, "best").network.loading.normalise.ends
    assert ends == tuple(tuple(numbers[name]) for name in ("black", "white"))
    (folder / "results.json").unlink()
    white = [numbers["white"][0] * 1.001, *numbers["white"][1:]]
    kept.write_text(json.dumps({**numbers, "white": white}))
    not_those = r"statistics\.json is not what this run's checkpoints were trained with"
    for act in (
        lambda: restore(config, folder, "best"),
        lambda: train_and_evaluate(config, folder),
    ):
        with pytest.raises(UserError, match=not_those):
            act()
    kept.write_text(json.dumps({**numbers, "white": [7, 8, 9]}))
    with pytest.raises(UserError, match=r"statistics\.json is not what a run wrote"):
        restore(config, folder, "best")
    kept.unlink()
    with pytest.raises(UserError, match=r"statistics\.json is not there"):
        predict_run(config, folder, output=str(tmp_path / "none"), **args)
    kept.write_text(json.dumps(numbers))


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_packed_trials_read_the_same(tmp_path, fit):
    make_set(tmp_path, "uint16", 2)
    experiment = assemble(config_of(tmp_path, "z_score", "image", fit=fit))
    source, loading = experiment.dataset.splits["train"], experiment.loading
    order = {"batch_size": 2, "seed": 0, "start": 0, "stop": 3}
    alone = list(train_batches(source, loading, **order))
    remembered = Remembered(source, loading)
    packed = list(train_batches(remembered, remembered.loading, **order))
    for one, other in zip(alone, packed, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    assert alone[0]["image"].min() < 0.5 < alone[0]["image"].max()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("kind", "zscore"), ("kind", 3), ("of", "test"), ("percentiles", (1,))),
        *(("percentiles", (5, 5)), ("percentiles", (-1, 99)), ("percentiles", (1, 101))),
        *(("percentiles", ("a", "b")), ("percentiles", (False, True)), ("kinds", "range")),
    ],
)
def test_what_is_no_way_is_one_line(tmp_path, key, value):
    config = config_of(tmp_path, "range", "train").to_dict()
    config["data"]["normalise"][key] = value
    with pytest.raises(UserError, match=rf"config\.data\.normalise[. ].*{key}") as error:
        unet_jax.data.sources.read_loading(config["data"])
    assert "\n" not in str(error.value)


def test_steps_of_values_leave_what_is_far_from_the_mean(tmp_path):
    """Brightness of 0 at the limit: z-scores of 5 deviations are not cut."""
    image = np.zeros((1, 4, 4, 3), np.float32)
    image[0, 0, 0], image[0, 3, 3] = 1.75, -0.75  # 5 deviations from the grey of 0.5
    batch = image, np.zeros((1, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)
    steps = {
        "colour": {"brightness": 1e-6, "saturation": 1e-6},
        "zoom": {"scale": (1.0, 1.0 + 1e-6)},
    }
    found = make_augment(steps, (0.0, 1.0), is_bounded=False)(*batch, jax.random.key(0))[0]
    np.testing.assert_allclose(found, image, atol=1e-4)
    cut = make_augment(steps, (0.0, 1.0))(*batch, jax.random.key(0))[0]
    np.testing.assert_allclose(cut, np.clip(image, 0, 1), atol=1e-4)


def test_wholly_other_values_are_said_in_one_line():
    spec, how = make_spec(2, 1, "float32"), make_normalise("range")

    spec = spec._replace(value_range=(0.0, 200.0))

    def line(*images, how=how, spec=spec):
        found = OtherValues(spec, how)
        for number, values in enumerate(images):
            found.look(f"{number}.npy", np.array(values, spec.dtype).reshape(1, -1, 1))
        return found.line()

    assert line([0, 200], [20, 230], [-50, 100], [3, 5], [100, 700]) == ""
    assert line([0, 200], [300, 400]).startswith("1 of 2 images has values of a wholly other range")
    assert "such as 1.npy (300 to 400)" in line([0, 200], [300, 400])
    assert line([0, 65535], [0, 1], [7, 8]).startswith("3 of 3 images have values")
    assert line([0, 65535], how=make_normalise("z_score", "image")) == ""
    ends = (10.0,), (20.0,)
    trained = make_normalise("z_score")._replace(ends=ends)
    assert "1 of 1 images has" in line([0, 200], how=trained)
    assert line([5, 40], how=trained) == ""
    whole = make_spec(2, 1, "uint8")
    assert line([0, 1], spec=whole) == ""  # a dark image of the full type


def test_a_header_says_it_in_words():
    spec = make_spec(2, 2, "uint8")
    says = {
        ("range", "train"): "0 and 255 become 0 and 1",
        ("z_score", "image"): "mean and deviation of each channel of every image become 0 and 1",
        (
            "percentiles",
            "image",
        ): "percentiles 0.5 and 99.5 of each channel of every image become 0 "
        "and 1; values are cut there",
    }
    for (kind, of), text in says.items():
        assert make_normalise(kind, of).describe(spec) == text
    how = make_normalise("z_score")._replace(ends=((0.0, 10.0), (8.0, 14.0)))
    assert how.describe(spec) == (
        "mean and deviation of each channel of the training images (4 and 2, 12 and 1) become 0 "
        "and 1"
    )
