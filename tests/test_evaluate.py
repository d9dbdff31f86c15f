import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from unet_jax.augment import standardise
from unet_jax.data.base import IGNORE, Dataset
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.eval_step import EvalStep
from unet_jax.evaluate import evaluate, fixed_pictures, make_eval_settings, summarise
from unet_jax.fits import resize_logits
from unet_jax.logs import print_scores
from unet_jax.metrics import scores
from unet_jax.models.unet import UNet
from unet_jax.sharding import make_shardings

SIZES = [(16, 16), (40, 33), (16, 16), (20, 50), (100, 70), (40, 30), (9, 13)]
NAMES = ("a", "b", "c", "never")


class Pictures:
    ids = tuple(map(str, range(len(SIZES))))

    def __init__(self):
        rng = np.random.default_rng(0)
        self.items = []
        for index, size in enumerate(SIZES):
            image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
            label = rng.integers(0, 3, size).astype(np.uint8)
            label[:3] = IGNORE
            self.items.append({"image": image, "label": label, "id": str(index)})

    def __len__(self):
        return len(self.items)

    def size(self, index):
        return SIZES[index]

    def __getitem__(self, index):
        return self.items[index]


@pytest.fixture(scope="module")
def model():
    module = UNet(4, (4, 8))
    variables = module.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    return module, variables


def bilinear(logits, size):
    """Samples at the centres of the new pixels, with the edge repeated."""
    h, w, _ = logits.shape
    rows = (np.arange(size[0]) + 0.5) * h / size[0] - 0.5
    columns = (np.arange(size[1]) + 0.5) * w / size[1] - 0.5
    where = np.meshgrid(rows, columns, indexing="ij")
    return np.stack(
        [
            map_coordinates(channel, where, order=1, mode="nearest")
            for channel in np.moveaxis(logits, -1, 0)
        ],
        axis=-1,
    )


def run(model, fit, batch_size, devices=1):
    module, variables = model
    shardings = make_shardings(devices)
    loading, pictures = Loading((16, 16), fit, 2), Pictures()
    step = EvalStep(module, loading, shardings)
    return evaluate(step, variables, pictures, batch_size=batch_size, keep=(1, 4))


def test_logits_are_resized_bilinearly_to_each_own_size():
    logits = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    sizes = np.array([(20, 17), (8, 6)], np.float32)
    found = resize_logits(jnp.asarray(logits), jnp.asarray(sizes), (32, 32))
    np.testing.assert_allclose(found[0, :20, :17], bilinear(logits[0], (20, 17)), atol=1e-5)
    np.testing.assert_array_equal(found[1, :8, :6], logits[1])


def test_evaluation_equals_one_picture_at_a_time(model):
    module, variables = model
    found = run(model, "resize", 4)
    for index, item in enumerate(Pictures().items):
        image = np.asarray(Image.fromarray(item["image"]).resize((16, 16), Image.BILINEAR))
        unit = jnp.asarray(image, jnp.float32)[None] / 255
        logits = module.apply(variables, standardise(unit), train=False)
        prediction = bilinear(np.asarray(logits[0]), SIZES[index]).argmax(-1)
        expected = np.zeros((4, 4), int)
        known = item["label"] != IGNORE
        np.add.at(expected, (item["label"][known], prediction[known]), 1)
        # A pixel may fall the other way where two logits are equal up to rounding.
        assert np.abs(found.confusion[index] - expected).sum() <= 2
        assert found.confusion[index].sum() == known.sum()
        if index in (1, 4):
            agrees = found.predictions[index] == prediction
            assert agrees.shape == SIZES[index]
            assert (~agrees).sum() <= 1
    assert set(found.predictions) == {1, 4}


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_counts_do_not_depend_on_batch_size_or_devices(model, fit):
    first = run(model, fit, 3)
    for batch_size, devices in ((4, 1), (8, 1), (8, 8)):
        other = run(model, fit, batch_size, devices)
        np.testing.assert_array_equal(other.confusion, first.confusion)
        assert other.cross_entropy == pytest.approx(first.cross_entropy, rel=1e-6)
        for index, label in first.predictions.items():
            np.testing.assert_array_equal(other.predictions[index], label)


def test_summary_has_every_class_and_leaves_absent_ones_out(model):
    result = run(model, "resize", 4)
    summary = summarise(result, Dataset({}, NAMES))
    expected = scores(result.confusion.sum(axis=0), NAMES)
    assert {key: summary[key] for key in expected} == expected
    assert summary["IoU/never"] is None
    assert summary["cross_entropy"] > 0


@pytest.mark.parametrize("name", ["batch_size", "pictures"])
def test_settings_out_of_range(name):
    with pytest.raises(UserError, match=f"config.eval.{name}=0"):
        make_eval_settings(**{name: 0})


def test_fixed_pictures_are_spread_evenly():
    assert fixed_pictures(range(10), 2) == [2, 7]
    assert fixed_pictures(range(3), 6) == [0, 1, 2]


def test_a_split_without_a_labelled_pixel_has_no_cross_entropy(model, capsys):
    class Unlabelled(Pictures):
        def __init__(self):
            super().__init__()
            del self.items[2:]
            for item in self.items:
                item["label"][:] = IGNORE

    source = Unlabelled()
    step = EvalStep(model[0], Loading((16, 16), "resize", 1), make_shardings(1))
    found = evaluate(step, model[1], source, batch_size=2)
    summary = summarise(found, Dataset({"val": source}, NAMES))
    assert summary["cross_entropy"] is None
    assert set(summary.values()) == {None}
    print_scores("val", summary, NAMES)
    assert capsys.readouterr().out == "val: no pixel is labelled, so there is no score.\n"
