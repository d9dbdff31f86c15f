import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from vectors.make_vectors import milesial_shapes, numbers_for, resnet_shapes

from unet_jax.errors import UserError
from unet_jax.models.pretrained.torch_layout import (
    milesial_variables,
    resnet_variables,
    resnet_variant,
)

# That values land in the right places is shown by the outputs compared in test_resnet.py and
# test_weights.py; here is the rest.
FEATURES = (4, 6)


def milesial():
    return numbers_for(milesial_shapes(FEATURES, channels=3, classes=2))


def resnet(variant="resnet18"):
    return numbers_for(resnet_shapes(variant))


def drop(weights, *names):
    return {name: value for name, value in weights.items() if name not in names}


def test_transposed_convolution_keeps_its_taps():
    variables = milesial_variables(milesial(), FEATURES)
    filter_, kernel = milesial()["up1.up.weight"], variables["params"]["up_0"]["kernel"]
    assert kernel.shape == (2, 2, 6, 4)
    for i, o, row, column in np.ndindex(filter_.shape):
        assert kernel[row, column, i, o] == filter_[i, o, row, column]


def test_bias_before_a_norm_becomes_its_mean():
    weights, bias = milesial(), np.array([1, -2, 4, 8], np.float32)
    biased = milesial_variables(weights | {"inc.double_conv.3.bias": bias}, FEATURES)
    expected = flatten_dict(milesial_variables(weights, FEATURES))
    mean = ("batch_stats", "encoder_0", "BatchNorm_1", "mean")
    expected[mean] = expected[mean] - bias
    found = flatten_dict(biased)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value)


def test_first_convolution_is_adapted_to_the_channels():
    weights = resnet()
    rgb = np.moveaxis(weights["conv1.weight"], (0, 1), (-1, -2))

    def kernel(channels):
        return resnet_variables(weights, "resnet18", channels)["params"]["conv1"]["kernel"]

    np.testing.assert_array_equal(kernel(3), rgb)
    np.testing.assert_allclose(kernel(1), rgb.sum(2, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(kernel(2), rgb[:, :, :2] * 1.5, atol=1e-6)
    expected = np.stack([rgb[:, :, i % 3] * 3 / 5 for i in range(5)], axis=2)
    np.testing.assert_allclose(kernel(5), expected, atol=1e-6)
    # An image twice over gives what it gives alone.
    np.testing.assert_allclose(kernel(6)[:, :, :3] + kernel(6)[:, :, 3:], rgb, atol=1e-6)


def test_what_is_known_to_be_unused_is_left_out():
    extra = {"fc.weight": np.zeros((1000, 512)), "bn1.num_batches_tracked": np.array(3)}
    assert len(flatten_dict(resnet_variables(resnet() | extra, "resnet18"))) == len(resnet())
    extra = {"mask_values": np.zeros(2), "inc.double_conv.1.num_batches_tracked": np.array(3)}
    assert len(flatten_dict(milesial_variables(milesial() | extra, FEATURES))) == len(milesial())


def test_milesial_of_other_features():
    with pytest.raises(UserError, match=r"features \(4, 6\) and not \(4, 8\)"):
        milesial_variables(milesial(), (4, 8))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            lambda: drop(milesial(), "up1.up.weight", "up1.up.bias"),
            r"lack up1\.up\.weight, up1\.up\.bias; give those of the whole",
        ),
        (
            lambda: drop(milesial(), "inc.double_conv.3.weight"),
            r"lack inc\.double_conv\.3\.weight;",
        ),
        (
            lambda: drop(milesial(), "outc.conv.bias") | {"outc.b": np.zeros(1)},
            r"lack outc\.conv\.bias and have outc\.b, which nothing uses",
        ),
        (dict, r"lack outc\.conv\.weight, .*, and 8 more;"),
        (
            lambda: milesial() | {"outc.conv.weight": np.zeros(3)},
            r"outc\.conv\.weight has shape \(3,\), which is no convolution's",
        ),
    ],
)
def test_milesial_weights_that_are_no_whole(weights, message):
    with pytest.raises(UserError, match=message):
        milesial_variables(weights(), FEATURES)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            lambda: resnet() | {"layer1.0.se.weight": np.zeros(3)},
            r"have layer1\.0\.se\.weight, which nothing uses",
        ),
        (lambda: drop(resnet(), "layer4.1.bn2.running_var"), r"lack layer4\.1\.bn2\.running_var;"),
        (lambda: resnet("resnet34"), r"have layer1\.2\.bn1\.bias, .*, and \d+ more, which nothing"),
    ],
)
def test_resnet_weights_that_are_no_whole(weights, message):
    with pytest.raises(UserError, match=message):
        resnet_variables(weights(), "resnet18")


@pytest.mark.parametrize("variant", ["resnet18", "resnet34", "resnet50"])
def test_variant_is_known_by_its_names(variant):
    assert resnet_variant(resnet_shapes(variant)) == variant


def test_a_resnet_that_is_not_known():
    resnet101 = resnet_shapes("resnet50") | {f"layer3.{i}.conv1.weight": () for i in range(6, 23)}
    with pytest.raises(UserError, match=r"\(3, 4, 23, 3\) bottleneck blocks; known are resnet18"):
        resnet_variant(resnet101)
