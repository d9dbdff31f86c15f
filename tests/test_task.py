"""What labels mean: against SciPy and loops over pixels."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax
from support.paths import ROOT

from unet_jax.errors import UserError
from unet_jax.task import Exclusive, MultiLabel, Regions, make_task

NAMES = ("ground", "whole", "core", "hot")
REGIONS = (("all", (1, 2, 3), 1), ("inner", (2, 3), 2), ("hottest", (3,), 3))
K = 3


@pytest.fixture
def logits():
    values = 3 * np.random.default_rng(0).normal(size=(2, 5, 7, K)).astype(np.float32)
    values[0, 0, 0] = (100.0, -100.0, 0.0)
    return values


@pytest.fixture
def ids():
    return np.random.default_rng(1).integers(0, 4, (2, 5, 7))


def members(ids):
    """Returns which regions a class is in, pixel by pixel."""
    found = np.zeros((*ids.shape, K), bool)
    for pixel in np.ndindex(ids.shape):
        for channel, (_, inside, _) in enumerate(REGIONS):
            found[(*pixel, channel)] = ids[pixel] in inside
    return found


def test_exclusive_classes(logits):
    task, label = Exclusive(NAMES[:K]), np.arange(70).reshape(2, 5, 7) % K
    log_p = log_softmax(np.float64(logits), axis=-1)
    np.testing.assert_allclose(task.probability(jnp.asarray(logits)), np.exp(log_p), atol=1e-6)
    np.testing.assert_array_equal(task.decide(jnp.asarray(logits)), log_p.argmax(-1))
    np.testing.assert_array_equal(task.target(jnp.asarray(label)), np.eye(K)[label])
    expected = -np.take_along_axis(log_p, label[..., None], -1)[..., 0]
    found = task.cross_entropy(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["multilabel", "regions"])
def test_independent_channels(logits, ids, kind, smoothing):
    names, regions = (NAMES, REGIONS) if kind == "regions" else (NAMES[1:], ())
    task, on = make_task(kind, regions, class_names=names), members(ids)
    label = jnp.asarray(ids if kind == "regions" else on.astype(np.uint8))
    assert task.channels == len(task.names) == K
    assert task.label_shape == label.shape[3:]
    p = expit(np.float64(logits))
    np.testing.assert_allclose(task.probability(jnp.asarray(logits)), p, atol=1e-6)
    decision = task.decide(jnp.asarray(logits))
    np.testing.assert_array_equal(decision, p > 0.5)
    np.testing.assert_array_equal(task.truth(label), on)
    np.testing.assert_array_equal(task.target(label), on)
    y = (1 - smoothing) * on + smoothing / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = -y * np.log(p) - (1 - y) * np.log1p(-p)
    expected[0, 0, 0, 0] = 100 * (1 - y[0, 0, 0, 0])  # where 1 - p is 0 in float64
    found = task.cross_entropy(jnp.asarray(logits), label, smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_regions_are_written_one_over_the_other(logits, ids):
    # Not in the order of their ids, and the last class is in no region.
    regions = (("hottest", (3,), 3), ("all", (1, 2, 3), 1), ("inner", (2,), 2))
    task = make_task("regions", regions, class_names=(*NAMES, "other"))
    on = np.asarray(task.decide(jnp.asarray(logits)))
    expected = np.zeros(on.shape[:-1], int)
    for pixel in np.ndindex(expected.shape):
        for channel, written in enumerate((3, 1, 2)):
            if on[(*pixel, channel)]:
                expected[pixel] = written
    mask = task.mask(jnp.asarray(on))
    assert mask.dtype == np.uint8
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(mask, expected)
    label = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)
    np.testing.assert_array_equal(task.right_mask(label), [[0, 1, 2, 1, 0, 255]])
    right = task.mask(task.truth(jnp.asarray(ids)))
    np.testing.assert_array_equal(right, task.right_mask(ids))


def test_masks_of_other_tasks_are_decisions(logits):
    ids = Exclusive(NAMES[:K]).mask(jnp.asarray(logits).argmax(-1))
    assert (ids.dtype, ids.shape) == (np.uint8, (2, 5, 7))
    several = MultiLabel(NAMES[:K])
    mask = several.mask(several.decide(jnp.asarray(logits)))
    assert (mask.dtype, mask.shape) == (np.uint8, (2, 5, 7, K))
    np.testing.assert_array_equal(mask, logits > 0)


@pytest.mark.parametrize(
    "task",
    [
        Exclusive(NAMES[:K]),
        MultiLabel(NAMES[:K]),
        Regions(NAMES[:K], ((1,), (2,), (1, 2)), (1, 2, 2)),
    ],
)
def test_weights_of_elements(task):
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2 if task.label_shape else 3, (2, 3, 5, *task.label_shape))
    weight, factors = rng.random((2, 3, 5)).astype(np.float32), (2.0, 0.5, 3.0)
    plain, weighed = (
        np.asarray(task.weigh(jnp.asarray(label), jnp.asarray(weight), some))
        for some in ((), factors)
    )
    for pixel in np.ndindex(2, 3, 5):
        if isinstance(task, Exclusive):
            assert plain[pixel] == weight[pixel]
            assert weighed[pixel] == weight[pixel] * factors[label[pixel]]
        else:
            np.testing.assert_array_equal(plain[pixel], np.full(K, weight[pixel]))
            expected = weight[pixel] * np.array(factors)
            np.testing.assert_allclose(weighed[pixel], expected, rtol=1e-6)


def test_no_other_module_knows_what_logits_mean():
    """Beside the task only a network's own gates, its pooling, and the counting of ids."""
    own = {"task.py", "models/gates.py", "models/up/unpool.py", "metrics/overlap.py"}
    package = ROOT / "unet_jax"
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(r"softmax|sigmoid|one_hot|jnp\.argmax", file.read_text())
    }
    assert found == own


@pytest.mark.parametrize(
    ("kind", "regions", "says"),
    [
        ("both", (), r"kind='both' is not known; allowed are exclusive, multilabel, regions"),
        ("regions", (), r"regions=\(\) does not fit config\.task\.kind='regions'"),
        ("exclusive", REGIONS, r"does not fit config\.task\.kind='exclusive': name regions with"),
        ("regions", (("all", 1, 1),), r"has \('all', 1, 1\); each entry must be \(name, \(class"),
        ("regions", (("all", (), 1),), r"has \('all', \(\), 1\); each entry"),
        ("regions", (("all", (1, 4), 1),), r"has \('all', \(1, 4\), 1\).* ids from 0 to 3"),
        ("regions", (("all", (1, True), 1),), r"has \('all', \(1, True\), 1\)"),
        ("regions", (("all", (1,), -1),), r"has \('all', \(1,\), -1\)"),
        ("regions", ((1, (1,), 1),), r"has \(1, \(1,\), 1\)"),
        ("regions", ("all",), r"has 'all'; each entry"),
        ("regions", (REGIONS[0], REGIONS[0]), r"regions has a name twice: all, all"),
    ],
)
def test_values_that_do_not_fit(kind, regions, says):
    with pytest.raises(UserError, match=says) as error:
        make_task(kind, regions, class_names=NAMES)
    assert "\n" not in str(error.value)
