"""Every variant: its parameters, its outputs, its arithmetic and one step of training."""

import inspect
import json
import re
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.family import make, make_image, shallow, small, tiny_resnets, train_size
from support.paths import ROOT, VECTORS
from support.tasks import exclusive

from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError
from unet_jax.losses.make import make_loss
from unet_jax.models.encoders.resnet import ENCODERS
from unet_jax.models.rules import CHOICES
from unet_jax.models.unet import UNet
from unet_jax.models.variants import DEFAULTS, VARIANTS, section
from unet_jax.optim.make import make_optimizer
from unet_jax.sharding import make_shardings, put_batch, replicate
from unet_jax.step import begin_state, make_train_step

ROWS = json.loads((VECTORS / "counts.json").read_text())
F = (64, 128, 256, 512, 1024)


def plain(c, f, convs=2):
    return 9 * c * f + 2 * f + (convs - 1) * (9 * f * f + 2 * f)


def residual(c, f):
    return plain(c, f) + (c * f + 2 * f if c != f else 0)


def bottleneck(c, f):
    n = f // 4
    units = [c * n + 2 * n + 9 * n * n + 2 * n + n * f + 2 * f for c in (c, f)]
    return sum(units) + (c * f + 2 * f if c != f else 0)


def depthwise(c, f):
    return sum(9 * c + 2 * c + c * f + 2 * f for c in (c, f))


def encoder(block, channels=3):
    return sum(block(c, f) for c, f in zip((channels, *F), F, strict=False))


def up(level):
    return 4 * F[level + 1] * F[level] + F[level]


def unet(block, classes=2):
    decoder = sum(up(level) + block(2 * F[level], F[level]) for level in range(4))
    return encoder(block) + decoder + F[0] * classes + classes


def gates():
    hidden = [f // 2 for f in F]
    return sum(4 * F[i] * hidden[i] + F[i + 1] * hidden[i] + 2 * hidden[i] + 1 for i in range(4))


def nested():
    nodes = sum(
        up(level) + plain((j + 1) * F[level], F[level])
        for level in range(4)
        for j in range(1, 5 - level)
    )
    return encoder(plain) + nodes + 4 * (F[0] * 2 + 2)


def full_scale():
    total, wide = encoder(plain) + 4 * (5 * 64 * 2 + 2), 5 * 64
    for level in range(4):
        sources = [*F[: level + 1], *[wide] * (3 - level), F[4]]
        total += sum(plain(c, 64, 1) for c in sources) + plain(wide, wide, 1)
    return total


def on_resnet(variant):
    (total,) = [row["parameters"] for row in ROWS if row["settings"].get("variant") == variant]
    channels, features = (0, *ENCODERS[variant].channels), (16, 32, 64, 128, 256)
    c = channels[5]
    for level in reversed(range(5)):
        f = features[level]
        total, c = total + 4 * c * f + f + plain(f + channels[level], f), f
    return total + c * 2 + 2


# Parameters with 3 channels and 2 classes, counted layer by layer above. For nnU-Net's, whose
# smaller and larger relatives PyTorch counted (below), they are what the code gave when these tests
# were written; change them when a variant is changed on purpose.
COUNTS = {
    "modern": unet(plain),
    "paper": 31_031_810,
    "residual": unet(residual),
    "bottleneck": unet(bottleneck),
    "attention": unet(plain) + gates(),
    "unet++": nested(),
    "unet3+": full_scale(),
    "nnunet": 46_325_134,
    "nnunet_resenc": 140_017_614,
    "squeeze_excite": unet(plain)
    + sum(2 * f * max(4, f // 16) + max(4, f // 16) + f for f in (*F, *F[:4])),
    "dilated": unet(plain) + 9 * 1024**2 + 2 * 1024,
    "depthwise": unet(depthwise),
    "folded": unet(plain) + 9 * (12 - 3) * 64 + (64 + 1) * (8 - 2),
    **{variant: on_resnet(variant) for variant in ENCODERS},
}


def parameters(channels, **values):
    model = UNet(2, **values)
    shape = (1, *(572 if model.padding == "valid" else 256,) * model.dimensions, channels)
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def test_every_variant_has_a_count():
    assert set(COUNTS) == set(VARIANTS)
    assert COUNTS["modern"] == 31_037_698


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts(variant):
    assert parameters(3, **section(variant)) == COUNTS[variant]


NETWORKS = {
    "paper": "paper",
    "milesial": "modern",
    "nnunet_plain": "nnunet",
    "nnunet_residual": "nnunet_resenc",
}


@pytest.mark.parametrize("row", [row for row in ROWS if row["network"] in NETWORKS])
def test_parameter_counts_equal_pytorchs(row):
    settings = row["settings"]
    changes = {"features": tuple(settings["features"]), "dimensions": settings.get("dims", 2)}
    if "blocks" in settings:
        changes["repeats"] = tuple(settings["blocks"])
    values = section(NETWORKS[row["network"]], **changes)
    assert parameters(settings.get("channels", 1), **values) == row["parameters"]


def test_defaults_are_those_of_the_model():
    fields = inspect.signature(UNet).parameters
    linens = {"num_classes", "parent", "name"}
    assert {k: p.default for k, p in fields.items() if k not in linens} == DEFAULTS


def test_pages_take_sections_without_loading_jax():
    code = (
        "import sys; from unet_jax.models.variants import section; section('unet++'); "
        "sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_section_fits_the_levels_and_keeps_changes():
    values = section("nnunet_resenc", features=(4, 8, 12))
    assert values["repeats"] == (1, 3, 4)
    assert values["deep_supervision"] == 1
    assert section("paper", features=(4, 8, 12))["dropout"] == (0.0, 0.5, 0.5)
    assert section("unet++", deep_supervision=0)["deep_supervision"] == 0
    with pytest.raises(UserError, match=r"'unet' is no variant; allowed are modern, paper"):
        section("unet")
    with pytest.raises(UserError, match=r"'deep' is no argument of UNet; allowed are features"):
        section(deep=1)


def test_float64_float32_and_bfloat16_agree(variant, monkeypatch):
    monkeypatch.setitem(CHOICES, "dtype", (*CHOICES["dtype"], "float64"))
    tiny_resnets(monkeypatch)
    model, variables = make(variant, **shallow(variant))
    size = (92, 96) if model.padding == "valid" else (13, 21)  # odd, and a batch of one
    image = make_image((1, *size, 3))

    def logits(dtype):
        apply = small(variant, dtype=dtype, **shallow(variant)).apply
        return jax.jit(lambda v, x: apply(v, x, train=False))(variables, image)

    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        exact = np.asarray(logits("float64"))
    expected = model.axis_path().output_size(92) if model.padding == "valid" else 13
    assert exact.shape[:2] == (1, expected)
    assert exact.shape[-1] == 3
    scale = np.abs(exact).max()
    assert scale > 1e-3
    single, half = np.asarray(logits("float32")), np.asarray(logits("bfloat16"))
    assert single.dtype == half.dtype == np.float32
    assert np.abs(single - exact).max() < 1e-5 * scale
    assert 1e-4 * scale < np.abs(half - exact).max() < 0.06 * scale


def test_one_step_of_training_changes_every_parameter(variant, monkeypatch):
    tiny_resnets(monkeypatch)
    model, variables = make(variant, **shallow(variant))
    size = train_size(model)
    shardings = make_shardings(1)
    optim = {"name": "sgd", "learning_rate": 1.0, "schedule": "constant", "warmup": "0"}
    optimizer = make_optimizer(**optim, weight_decay=0.0, total_steps=9, epoch_steps=1.0)
    loss = make_loss({"cross_entropy": {}, "dice": {}}, exclusive(3))
    augment = make_augment({}, RGB.value_range)
    params = variables["params"]
    before = jax.device_get(params)
    state = jax.jit(lambda variables: begin_state(variables, optimizer))(variables)
    step = make_train_step(model, loss, optimizer, augment, shardings, state)
    state, key = replicate((state, jax.random.key(1)), shardings)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    batch = {"image": image, "label": image[..., 0] // 86, "weight": np.ones_like(image[..., 0])}
    state, scalars = step(state, put_batch(batch, shardings), key)
    assert all(np.isfinite(value) for value in scalars.values())
    flat, _ = jax.tree_util.tree_flatten_with_path(before)
    for (path, old), new in zip(flat, jax.tree.leaves(state.params), strict=True):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(new).all(), name
        # A bias before batch statistics does nothing, nor can a unit do that was dropped.
        does_nothing = {
            "Dropout": True,
            "Conv.*bias": model.conv_bias,
            "up_.*bias": model.block == "bottleneck",  # 1x1 convolutions read it, then statistics
            "BatchNorm_[02]'.*bias": model.block == "depthwise",  # likewise
        }
        if not any(holds and re.search(text, name) for text, holds in does_nothing.items()):
            assert (np.asarray(new) != old).any(), name


def test_the_shapes_page_takes_every_variant():
    page = runpy.run_path(str(ROOT / "configs" / "shapes.py"))
    for name in VARIANTS:
        config = page["get_config"](name)
        model = UNet(6, **config.model)
        image = jax.ShapeDtypeStruct((1, *config.data.image_size, 3), jnp.float32)

        def forward(image, model=model):
            return model.init_with_output(jax.random.key(0), image, train=False)[0]

        size = (68, 68) if name == "paper" else (64, 64)
        assert jax.eval_shape(forward, image).shape == (1, *size, 6), name
