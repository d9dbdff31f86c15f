import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates
from support.scored import scores
from support.tasks import exclusive

from unet_jax import evaluate as evaluation_of_splits
from unet_jax.augment.scale import standardise
from unet_jax.data.base import IGNORE
from unet_jax.data.sample import RGB, Sample
from unet_jax.data.sources import Loading
from unet_jax.data.synthetic import open_synthetic
from unet_jax.errors import UserError
from unet_jax.evaluate import evaluate, fixed_images, summarise
from unet_jax.metrics import choices
from unet_jax.metrics.base import SHARE, K, Metric
from unet_jax.metrics.overlap import Overlap
from unet_jax.models.unet import UNet
from unet_jax.network import make_eval_settings
from unet_jax.predict.eval_step import evaluation
from unet_jax.predict.fits import resize_logits
from unet_jax.predict.predictor import Predictor
from unet_jax.runs.logs import print_scores
from unet_jax.sharding import make_shardings
from unet_jax.task import Exclusive

SIZES = [(16, 16), (40, 33), (16, 16), (20, 50), (100, 70), (40, 30), (9, 13)]
NAMES = ("a", "b", "c", "never")


class Images:
    ids = tuple(map(str, range(len(SIZES))))
    spec = RGB
    spacing = (1.0, 1.0)

    def __init__(self):
        rng = np.random.default_rng(0)
        self.items = []
        for index, size in enumerate(SIZES):
            image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
            label = rng.integers(0, 3, size).astype(np.uint8)
            label[:3] = IGNORE
            objects = None if index % 2 else np.full(size, index)
            self.items.append(Sample(image, label, str(index), self.spacing, objects))

    def __len__(self):
        return len(self.items)

    def shape(self, index):
        return SIZES[index]

    def read(self, index):
        return self.items[index]


@pytest.fixture(scope="module")
def model():
    module = UNet(4, (4, 8))
    image = jnp.zeros((1, 16, 16, 3))
    variables = jax.jit(lambda: module.init(jax.random.key(0), image, train=False))()
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


def run(model, fit, batch_size, devices=1, chosen=None, choose=None):
    module, variables = model
    shardings = make_shardings(devices)
    loading, images = Loading((16, 16), fit, 2), Images()
    step = Predictor(module, RGB, loading, shardings, evaluation(exclusive(4), chosen or {}))
    options = {"batch_size": batch_size, "keep": (1, 4), "choose": choose}
    return evaluate(step, variables, images, **options)


def test_logits_are_resized_bilinearly_to_each_own_size():
    logits = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    sizes = np.array([(20, 17), (8, 6)], np.float32)
    resize = jax.jit(resize_logits, static_argnums=2)
    found = resize(logits, sizes, (32, 32))
    np.testing.assert_allclose(found[0, :20, :17], bilinear(logits[0], (20, 17)), atol=1e-5)
    np.testing.assert_array_equal(found[1, :8, :6], logits[1])


def test_logits_of_volumes_are_resized_linearly_along_each_axis():
    logits = np.random.default_rng(0).normal(size=(1, 4, 6, 5, 2)).astype(np.float32)
    size = (7, 3, 9)
    resize = jax.jit(resize_logits, static_argnums=2)
    found = resize(logits, np.array([size], np.float32), (8, 8, 12))
    axes = [
        (np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, logits.shape[1:4], strict=True)
    ]
    where = np.meshgrid(*axes, indexing="ij")
    for k in range(2):
        expected = map_coordinates(logits[0, ..., k], where, order=1, mode="nearest")
        np.testing.assert_allclose(found[0, :7, :3, :9, k], expected, atol=1e-5)


def test_evaluation_equals_one_image_at_a_time(model):
    module, variables = model
    found = run(model, "resize", 4)
    apply = jax.jit(lambda v, unit: module.apply(v, standardise(unit), train=False))
    for index, item in enumerate(Images().items):
        image = np.asarray(Image.fromarray(item.image).resize((16, 16), Image.BILINEAR))
        logits = apply(variables, np.float32(image[None]) / np.float32(255))
        prediction = bilinear(np.asarray(logits[0]), SIZES[index]).argmax(-1)
        expected = np.zeros((4, 4), int)
        known = item.label != IGNORE
        np.add.at(expected, (item.label[known], prediction[known]), 1)
        # A pixel may fall the other way where two logits are equal up to rounding.
        assert np.abs(found.counts["overlap/confusion"][index] - expected).sum() <= 2
        assert found.counts["overlap/confusion"][index].sum() == known.sum()
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
        for name, counts in first.counts.items():
            np.testing.assert_allclose(other.counts[name], counts, rtol=1e-6)
        for index, label in first.predictions.items():
            np.testing.assert_array_equal(other.predictions[index], label)


def test_chosen_metrics_do_not_depend_on_batch_size_or_devices(model):
    chosen = choices.check_metrics({name: {} for name in choices.CHOICES})
    first = run(model, "resize", 1, chosen=chosen)
    want = summarise(first, Exclusive(NAMES))
    assert want["HD95/b"] > 1
    assert {key.partition("/")[0] for key in first.counts} > set(chosen)
    for batch_size, devices in ((3, 1), (8, 8)):
        other = run(model, "resize", batch_size, devices, chosen)
        for name, counts in first.counts.items():
            # A score may fall into the next bin, or on the other side of a threshold.
            if name.partition("/")[0] not in ("curves", "calibration", "segments"):
                np.testing.assert_allclose(other.counts[name], counts, rtol=1e-6, err_msg=name)
        got = summarise(other, Exclusive(NAMES))
        assert {name: value for name, value in got.items() if value is None} == {
            name: value for name, value in want.items() if value is None
        }
        for name, value in want.items():
            assert value is None or got[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_counts_of_volumes_do_not_depend_on_the_mesh(fit):
    source = open_synthetic(train=1, val=3, test=1, size=12, axes=3).splits["val"]
    module, spec = UNet(6, (4,), dimensions=3, norm="none"), source.spec
    image = jnp.zeros((1, 8, 8, 8, 1))
    variables = jax.jit(lambda: module.init(jax.random.key(0), image, train=False))()
    found = []
    for mesh in ((1, 1, 1), (2, 1, 2)):
        loading = Loading((8, 10, 12), fit, 1)
        step = Predictor(module, spec, loading, make_shardings(*mesh), evaluation(exclusive(6)))
        found.append(evaluate(step, variables, source, batch_size=2, keep=(2,)))
    one, other = found
    np.testing.assert_array_equal(other.confusion, one.confusion)
    np.testing.assert_array_equal(other.predictions[2], one.predictions[2])
    for name, counts in one.counts.items():
        np.testing.assert_allclose(other.counts[name], counts, rtol=1e-6)
    label = source.read(2).label
    expected = np.zeros((6, 6), int)
    np.add.at(expected, (label.ravel(), one.predictions[2].ravel()), 1)
    np.testing.assert_array_equal(one.counts["overlap/confusion"][2], expected)


def test_predictions_of_images_that_their_counts_choose(model, monkeypatch):
    given = []

    def choose(counts):
        given.append(counts)
        return [4, 0, 1]

    found = run(model, "resize", 4, choose=choose)
    assert list(found.extremes) == [4, 0, 1]
    for index, prediction in found.extremes.items():
        assert prediction.shape == SIZES[index]
        expected, label = np.zeros((4, 4), int), Images().items[index].label
        known = label != IGNORE
        np.add.at(expected, (label[known], prediction[known]), 1)
        np.testing.assert_array_equal(given[0]["overlap/confusion"][index], expected)
    monkeypatch.setattr(evaluation_of_splits, "HELD", 1)
    assert run(model, "resize", 4, choose=choose).extremes == {}
    assert run(model, "resize", 4).extremes == {}


def test_summary_has_every_class_and_leaves_absent_ones_out(model):
    result = run(model, "resize", 4)
    summary = summarise(result, Exclusive(NAMES))
    expected = scores(result.confusion, NAMES)
    assert {key: summary[key] for key in expected} == expected
    assert summary["IoU/never"] is None
    assert summary["cross_entropy"] > 0


@pytest.mark.parametrize("name", ["batch_size", "shown"])
def test_settings_out_of_range(name):
    with pytest.raises(UserError, match=f"config.eval.{name}=0"):
        make_eval_settings(**{name: 0})


def test_fixed_images_are_spread_evenly():
    assert fixed_images(range(10), 2) == [2, 7]
    assert fixed_images(range(3), 6) == [0, 1, 2]


def test_a_split_without_a_labelled_pixel_has_no_cross_entropy(model, capsys):
    class Unlabelled(Images):
        def __init__(self):
            super().__init__()
            del self.items[2:]
            for item in self.items:
                item.label[:] = IGNORE

    source = Unlabelled()
    outputs, loading = evaluation(exclusive(4)), Loading((16, 16), "resize", 1)
    step = Predictor(model[0], RGB, loading, make_shardings(1), outputs)
    found = evaluate(step, model[1], source, batch_size=2)
    summary = summarise(found, Exclusive(NAMES))
    assert summary["cross_entropy"] is None
    assert set(summary.values()) == {None}
    print_scores("val", summary, NAMES)
    assert capsys.readouterr().out == "val: no pixel is labelled, so there is no score.\n"


@dataclasses.dataclass(frozen=True)
class Loop(Metric):
    """Counts on the host, image by image, by a loop over pixels."""

    class_names: tuple
    least: float = 0.5
    on_device = False
    axes = {"confusion": (K, K), "size": (), "sides": (2,), "objects": (), "least": ()}  # noqa: RUF012
    reads = ("logits", "decision", "label", "weight")

    def count(self, outcome):
        assert outcome.logits.shape[-1] == 4
        assert outcome.loss is None, "what is not read does not come"
        confusion = np.zeros((1, 4, 4), int)
        for i in np.ndindex(outcome.label.shape):
            if outcome.weight[i]:
                confusion[0, outcome.label[i], outcome.decision[i]] += 1
        objects = outcome.objects.max() if outcome.objects is not None else -1.0
        return {
            "confusion": confusion,
            "size": np.array([outcome.label.size]),
            "sides": np.array([outcome.spacing]),
            "objects": np.array([float(objects)]),
            "least": np.array([self.least]),
        }

    def kinds(self):
        return {"loop": SHARE}

    def ratio(self, name, counts):
        return Overlap(NAMES).ratio("pixel_accuracy", counts)


def test_a_metric_that_counts_on_the_host_has_each_image_in_its_own_size(model, monkeypatch):
    monkeypatch.setitem(choices.CHOICES, "loop", choices.Choice(Loop))
    monkeypatch.setattr(Images, "spacing", (0.5, 2.0))
    found = run(model, "resize", 3, chosen=choices.check_metrics({"loop": {"least": 0.25}}))
    counts = found.counts
    np.testing.assert_array_equal(counts["loop/confusion"], counts["overlap/confusion"])
    assert counts["loop/size"].tolist() == [height * width for height, width in SIZES]
    assert counts["loop/sides"].tolist() == [[0.5, 2.0]] * len(SIZES)
    assert counts["loop/objects"].tolist() == [-1.0 if i % 2 else i for i in range(len(SIZES))]
    assert set(counts["loop/least"]) == {0.25}
    summary = summarise(found, Exclusive(NAMES))
    assert summary["loop"] == summary["pixel_accuracy"]
    assert "loop/size" not in run(model, "resize", 3).counts
