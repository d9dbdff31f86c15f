"""Which values are weights."""

import re

import numpy as np
import pytest
from support.weights import (
    SAVE,
    WithEncoder,
    milesial_weights,
    resnet_weights,
    shapes_of,
    unet,
    write,
)

from unet_jax.errors import UserError
from unet_jax.models.pretrained.torch_layout import resnet_variables
from unet_jax.models.pretrained.weights import load_into

BAD = {
    "NaN": ("weight", [np.nan], "has 1 of 108 values that are NaN"),
    "infinity": ("weight", [1, -np.inf], "has 1 of 108 values that are NaN, infinite or"),
    "float64": ("weight", np.float64([1e39, -1e300]), "has 2 of 108 .* too large for float32"),
    "longdouble": ("weight", np.longdouble([1e300]), "has 1 of 108 .* too large for float32"),
    "complex": ("weight", np.complex64([1]), "is of type complex64"),
    "integer": ("weight", np.int32([1]), "is of type int32"),
    "bool": ("weight", np.bool_([1]), "is of type bool"),
    "text": ("weight", np.array(["a"]), "is of type <U1"),
    "bytes": ("weight", np.array([b"a"]), r"is of type \|S1"),
    "date": ("weight", np.array(["2026-01-01"], "M8[D]"), r"is of type datetime64\[D\]"),
    "duration": ("weight", np.array([1], "m8[s]"), r"is of type timedelta64\[s\]"),
    "fields": ("weight", np.zeros(1, [("a", np.float32)]), r"is of type \[\('a', '<f4'\)\]"),
    "variance": ("running_var", [0.5, -0.25], "has the negative variance -0.25"),
    "mean": ("running_mean", [np.nan], "has 1 of 4 values"),
    "bias": ("bias", [np.inf], "has 1 of 4 values"),
}


NPZ_ONLY = ("longdouble", "text", "bytes", "date", "duration", "fields")


def spoilt(values, shape):
    """An array of these values, and of zeros for the rest."""
    values = np.asarray(values)
    array = np.zeros(int(np.prod(shape)), np.float32 if values.dtype == float else values.dtype)
    array = array.astype(values.dtype)
    array[: values.size] = values
    return array.reshape(shape)


CASES = [(c, s, "milesial") for c in BAD for s in SAVE if s == ".npz" or c not in NPZ_ONLY]


CASES += [(case, ".safetensors", "resnet") for case in ("NaN", "integer", "variance")]


@pytest.mark.filterwarnings("error::RuntimeWarning")  # NumPy's, of an overflow, would be a line
@pytest.mark.parametrize(("case", "suffix", "network"), CASES)
def test_values_that_no_weight_has_are_refused(tmp_path, case, suffix, network):
    part, values, message = BAD[case]
    weights = milesial_weights(features=(4,)) if network == "milesial" else resnet_weights()
    layer = {"milesial": ("inc.double_conv.0", "inc.double_conv.1"), "resnet": ("conv1", "bn1")}
    name = f"{layer[network][part != 'weight']}.{part}"
    shape = weights[name].shape
    file = write(tmp_path, weights | {name: spoilt(values, shape)}, suffix)
    message = re.escape(f"{file}: {name} ") + message.replace("108", str(np.prod(shape)))
    message = message.replace("of 4 ", f"of {shape[0]} ")
    model = unet((4,)) if network == "milesial" else shapes_of(WithEncoder())
    with pytest.raises(UserError, match=message) as caught:
        load_into(model, file)
    assert "\n" not in str(caught.value)


def test_a_bias_that_becomes_a_mean_is_looked_at(tmp_path):
    name = "inc.double_conv.0.bias"
    for bias, message in (
        (np.float32([0, np.nan, 0, 0]), rf"{name} has 1 of 4 values that are NaN"),
        (np.array(list("abcd")), rf"{name} is of type <U1"),
        (np.zeros(3, np.float32), rf"{name} has shape \(3,\)"),
    ):
        file = write(tmp_path, milesial_weights(features=(4,)) | {name: bias}, ".npz")
        with pytest.raises(UserError, match=message):
            load_into(unet((4,)), file)


def test_no_channels_are_no_weights(tmp_path):
    weights = resnet_weights() | {"conv1.weight": np.zeros((64, 0, 7, 7), np.float32)}
    with pytest.raises(UserError, match=r"conv1.weight has shape \(64, 0, 7, 7\)"):
        resnet_variables(weights, "resnet18")


def test_values_of_what_is_not_used_do_not_matter(tmp_path):
    nan, count = np.full((1000, 512), np.nan), np.array(5)
    extra = {"fc.weight": nan, "fc.bias": np.zeros(3, int), "bn1.num_batches_tracked": count}
    load_into(shapes_of(WithEncoder()), write(tmp_path, resnet_weights() | extra))
    head = {"outc.conv.weight": np.full((2, 4, 1, 1), np.nan), "mask_values": np.arange(2)}
    file = write(tmp_path, milesial_weights(features=(4,)) | head)
    load_into(unet((4,)), file, keep_head=True)
    with pytest.raises(UserError, match=r"outc\.conv\.weight has 8 of 8 values"):
        load_into(unet((4,)), file)


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-310, 3.4e38, -3.4e38])
def test_values_that_float32_holds_are_taken(tmp_path, value):
    name = "inc.double_conv.1.bias"
    file = write(tmp_path, milesial_weights(features=(4, 6)) | {name: np.full(4, value)})
    found = load_into(unet((4, 6)), file)["params"]["encoder_0"]["BatchNorm_0"]["bias"]
    np.testing.assert_array_equal(np.asarray(found), np.float32([value] * 4))
