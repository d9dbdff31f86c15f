"""What an output pixel sees, and the sizes of valid convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.family import make, make_image, small, tiny_resnets
from support.tasks import exclusive

from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.losses.make import make_loss
from unet_jax.models.receptive import reach, receptive_field, sees
from unet_jax.models.unet import UNet
from unet_jax.models.variants import VARIANTS, section
from unet_jax.optim.make import make_optimizer
from unet_jax.predict.fits import make_fit
from unet_jax.sharding import make_shardings, put_batch, replicate
from unet_jax.step import begin_state, make_train_step

# Statistics over a whole image see all of it; gates have a test of their own.
LOCAL = {"norm": "batch", "squeeze_excite": 0, "attention": False}
SEEN = {
    **{v: (v, LOCAL) for v in VARIANTS if v not in {"paper", "squeeze_excite", "attention"}},
    "nested without a skip": ("unet++", {"up": "nearest", "skips_off": (0,)}),
    "full scale by three": ("unet3+", {"up_filters": ((3, 0, 3), (2, 0, 2))}),
    "pruned": ("unet++", {"prune": 1}),
    "strided residual": ("residual", {"pool": "stride", "up": "nearest"}),
    "strided bottleneck": ("bottleneck", {"pool": "stride", "up": "pixel_shuffle"}),
    "strided depthwise": ("depthwise", {"pool": "stride", "up": "bilinear", "fold": 2}),
    "average": ("modern", {"pool": "average", "up": "bilinear"}),
    "stem": ("modern", {"up": "nearest", "stem": True}),
    "stages": ("modern", {"up_filters": ((5, 1, 3), (4, 1, 2))}),
    "bilinear by three": ("modern", {"up": "bilinear", "up_filters": ((3, 0, 3), (2, 0, 2))}),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_an_output_pixel_sees(case, monkeypatch):
    """With positive weights and biases of 0, one bright row lights up all that sees it."""
    tiny_resnets(monkeypatch)
    variant, changes = SEEN[case]
    changes = {"input_scale": "standardised", **changes}
    model, variables = make(variant, **changes)

    def positive(path, x):
        if path[-1].key == "kernel":
            return np.abs(x) + np.float32(0.01)
        return np.full(x.shape, path[-1].key in {"scale", "var"}, np.float32)

    variables = jax.tree_util.tree_map_with_path(positive, jax.device_get(variables))
    multiple = model.multiple()
    height = -(-2 * receptive_field(model) // multiple) * multiple + 2 * multiple
    rows = height // 2 + np.unique(np.linspace(0, multiple - 1, 5).astype(int))
    image = np.zeros((len(rows), height, multiple, 3), np.float32)
    image[np.arange(len(rows)), rows] = 1.0
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    lit = np.asarray(logits).max((2, 3)) > 0
    seen = np.array([sees(model, q) for q in range(height)])
    for found, row in zip(lit, rows, strict=True):
        expected = (seen[:, 0] <= row) & (row <= seen[:, 1])
        np.testing.assert_array_equal(np.flatnonzero(found), np.flatnonzero(expected))
    inside = seen[(seen[:, 0] >= 0) & (seen[:, 1] < height)]
    assert np.max(inside[:, 1] - inside[:, 0]) + 1 == receptive_field(model)
    places = np.arange(height)
    far = (places - seen[:, 0])[::multiple], (seen[:, 1] - places)[multiple - 1 :: multiple]
    assert np.max(far) == reach(model)


@pytest.mark.parametrize("variant", ["attention", "unet++"])
def test_what_an_output_pixel_sees_through_gates(variant):
    """With positive weights nothing cancels, so that the gradient says what matters."""
    model, variables = make(variant, attention=True, pool="average")
    variables = jax.tree.map(lambda x: jnp.abs(x) * 0.1 + 0.01, variables)
    multiple = model.multiple()
    height = -(-2 * receptive_field(model) // multiple) * multiple
    rows = range(height // 2, height // 2 + multiple)

    @jax.jit
    @jax.grad
    def gradient(image, row):
        return model.apply(variables, image, train=False)[0, row].sum()

    image = jnp.full((1, height, multiple, 3), 0.1)
    for row in rows:
        found = np.flatnonzero(np.asarray(gradient(image, row)).any((0, 2, 3)))
        assert (found[0], found[-1]) == sees(model, row)


def test_receptive_fields_of_the_stock_models():
    # The bottom of a ResNet sees 435, 899 and 427 pixels (Araujo et al., 2019, Table 1, with the
    # stride in the 3x3 convolution); the plain decoder adds 4 pixels of the bottom's grid, 128.
    for variant, pixels in {"resnet18": 435, "resnet34": 899, "resnet50": 427}.items():
        assert receptive_field(UNet(2, **section(variant))) == pixels + 128
    field = receptive_field(UNet(2, **section("modern")))
    assert receptive_field(UNet(2, **section("folded"))) == 2 * field


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in {"paper", "squeeze_excite"}])
def test_moving_the_image_moves_the_output(variant, monkeypatch):
    tiny_resnets(monkeypatch)
    model, variables = make(variant, norm="batch")
    step, edge = model.multiple(), 320 if model.encoder != "blocks" else 120
    height = 2 * edge + 2 * step
    image = make_image((1, height + step, step, 3))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    first, second = apply(image[:, :height]), apply(image[:, step:])
    inside, again = first[:, edge + step : -edge], second[:, edge : -edge - step]
    assert inside.shape[1] >= step
    np.testing.assert_allclose(inside, again, atol=1e-5)
    # A step that is not whole moves the pooling's windows.
    if variant == "modern":
        third = apply(image[:, 1 : height + 1])
        assert np.abs(third[:, edge + step - 1 : -edge - 1] - inside).max() > 1e-3


def test_valid_convolutions_of_the_paper():
    path = UNet(2, **section("paper")).axis_path()
    assert path.output_size(572) == 388
    assert path.output_size(570) is None
    assert path.nearest_sizes(570) == [540, 556, 572, 588]
    assert path.input_size(388) == (572, 388)
    assert path.input_size(389) == (588, 404)
    model = UNet(2, **section("paper"))
    image = jax.ShapeDtypeStruct((1, 572, 556, 1), jnp.float32)
    logits, _ = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), image
    )
    assert logits.shape == (1, 388, 372, 2)


VALID = {
    "paper": {},
    "average": {"pool": "average"},
    "residual": {"block": "residual"},
    "wide": {"up_filters": ((4, 0, 2), (3, 0, 2))},
    "padded": {"up_filters": ((3, 1, 2), (6, 1, 3))},
    "shuffle": {"up": "pixel_shuffle", "up_filters": ((3, 0, 3), (2, 0, 2))},
    "one": {"repeats": (1, 2, 3), "decoder_repeats": (3, 1)},
}


@pytest.mark.parametrize("case", VALID)
def test_valid_sizes_are_what_the_model_makes(case):
    model = small("paper", **VALID[case])
    fits = 0
    for n in range(40, 90):
        image = jax.ShapeDtypeStruct((1, n, n, 3), jnp.float32)
        expected = model.axis_path().output_size(n)

        def run(x):
            return model.init_with_output(jax.random.key(0), x, train=False)[0]

        if expected is None:
            with pytest.raises(UserError, match=rf"image_size=\({n}, {n}\): {n} pixels do not fit"):
                jax.eval_shape(run, image)
        else:
            assert jax.eval_shape(run, image).shape == (1, expected, expected, 3)
            fits += 1
    assert fits > 1


def test_a_size_that_does_not_fit_names_those_that_do():
    model = UNet(2, **section("paper"))
    with pytest.raises(UserError) as caught:
        model.init(jax.random.key(0), jnp.zeros((1, 571, 572, 1)), train=False)
    said = "540 (to 356), 556 (to 372), 572 (to 388), 588 (to 404)"
    assert str(caught.value).startswith("config.data.image_size=(571, 572): 571 pixels do not fit")
    assert said in str(caught.value)


@pytest.mark.parametrize("is_least", [False, True])
def test_a_valid_model_reads_what_is_mirrored_around_the_image(is_least):
    model, variables = make("paper")
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    fit = make_fit(Loading((1, 1), "crop", 1), model)._replace(is_least=is_least)
    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3)).astype(np.uint8)
    canvas = fit.canvas((45, 70))
    read = fit.put(image, canvas)
    assert read.shape[:2] == fit.read(canvas)
    logits = apply(read[None] / np.float32(128))[0]
    assert logits.shape[:2] == canvas
    # Mirrored by hand, by more than is needed: what is cut off sees only what is mirrored.
    margin, fits = (read.shape[0] - canvas[0]) // 2, model.axis_path().output_size
    ends = [
        (margin, next(m for m in range(n + 2 * margin + 9, 999) if fits(m)) - n - margin)
        for n in image.shape[:2]
    ]
    padded = np.pad(image, (*ends, (0, 0)), mode="symmetric")
    plain = apply(padded[None] / np.float32(128))[0]
    np.testing.assert_allclose(logits[:45, :70], plain[:45, :70], atol=1e-5)


def test_pixels_that_do_not_see_the_padding_are_those_of_the_image_alone():
    model, variables = make("modern")
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    fit = make_fit(Loading((1, 1), "crop", 1), model)
    height, width = 16 * model.multiple(), 10 * model.multiple() + 5
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    canvas = fit.canvas((height, width))
    assert canvas != (height, width)
    found, plain = (apply(x[None] / np.float32(128))[0] for x in (fit.put(image, canvas), image))
    inside = [sum(sees(model, q)[1] < n for q in range(n)) for n in (height, width)]
    assert min(inside) > 0
    near = (slice(inside[0]), slice(inside[1]))
    np.testing.assert_allclose(found[near], plain[near], atol=1e-5)


def test_valid_convolutions_train_on_the_middle_of_the_label():
    model, variables = make("paper", dropout=())
    n, inner = model.axis_path().input_size(20)
    shardings = make_shardings(1)
    optimizer = make_optimizer(total_steps=9, epoch_steps=1.0)
    loss = make_loss({"cross_entropy": {}}, exclusive(3))
    state = begin_state({"params": variables["params"], "batch_stats": {}}, optimizer)
    step = make_train_step(
        model, loss, optimizer, make_augment({}, RGB.value_range), shardings, state
    )
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, n, n, 3)).astype(np.uint8)
    label, weight = image[..., 0] // 86, rng.integers(0, 2, image.shape[:3]).astype(np.uint8)
    edge = (n - inner) // 2

    def train(label):
        start, key = replicate((jax.tree.map(jnp.copy, state), jax.random.key(1)), shardings)
        batch = put_batch({"image": image, "label": label, "weight": weight}, shardings)
        return jax.device_get(step(start, batch, key)[1])

    found = train(label)
    x = (image / np.float32(255) - 0.5) / 0.25
    logits = jax.jit(lambda x: model.apply(variables, x, train=False))(x)
    middle = (slice(None), slice(edge, edge + inner), slice(edge, edge + inner))
    log_p = np.asarray(jax.nn.log_softmax(logits))
    picked = np.take_along_axis(log_p, label[middle][..., None], -1)[..., 0]
    expected = -np.sum(weight[middle] * picked) / np.sum(weight[middle])
    np.testing.assert_allclose(found["train/loss"], expected, rtol=1e-4)
    right = np.sum(weight[middle] * (log_p.argmax(-1) == label[middle])) / np.sum(weight[middle])
    np.testing.assert_allclose(found["train/pixel_accuracy"], right, rtol=1e-5)
    outside = np.full_like(label, 2)
    outside[middle] = label[middle]
    assert train(outside)["train/loss"] == found["train/loss"]
