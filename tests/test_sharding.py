from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tasks import exclusive

from unet_jax import step
from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError
from unet_jax.losses.make import make_loss
from unet_jax.models.unet import UNet
from unet_jax.optim.make import make_optimizer
from unet_jax.process import target
from unet_jax.sharding import (
    LEAST_SPLIT,
    by_parts,
    check_batch_size,
    check_height,
    describe_split,
    gather_parts,
    is_part,
    make_shardings,
    process_rows,
    put_batch,
    replicate,
    split_state,
)
from unet_jax.step import make_init, make_train_step

MESHES = [(8, 1, 1), (1, 8, 1), (1, 1, 4), (2, 2, 2)]


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, (8, 1, 1)),
        ({"data": 4}, (4, 1, 1)),
        ({"fsdp": 2, "space": 2}, (2, 2, 2)),
        ({"data": 2, "fsdp": -1}, (2, 4, 1)),
        ({"data": 1, "space": -1}, (1, 1, 8)),
    ],
)
def test_the_mesh_of_a_config(given, sizes):
    mesh = make_shardings(**given).mesh
    assert tuple(mesh.shape.items()) == tuple(zip(("data", "fsdp", "space"), sizes, strict=True))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"data": 9}, r"data=9, fsdp=1, space=1\) does not fit 8 devices; .* 1, 2, 4 or 8"),
        ({"fsdp": 3}, r"data=-1, fsdp=3, space=1\) does not fit 8 devices"),
        ({"data": 4, "space": 4}, "does not fit 8 devices"),
        ({"data": -1, "fsdp": -1}, "only one size can be -1"),
        ({"space": 0}, "must be 1 or more, or -1"),
    ],
)
def test_meshes_that_do_not_fit(given, text):
    with pytest.raises(UserError, match=text):
        make_shardings(**given)


def test_batches_that_do_not_fit():
    with pytest.raises(UserError, match=r"config.train.batch_size=12 .* 8 devices .* 8 or 16"):
        check_batch_size("config.train.batch_size", 12, make_shardings())
    check_batch_size("config.train.batch_size", 12, make_shardings(space=2))
    check_batch_size("config.train.batch_size", 16, make_shardings())


def test_heights_that_do_not_fit():
    shardings = make_shardings(space=4)
    check_height(128, 16, "same", shardings)
    text = r"96 rows of pixels are 6 at the deepest level, which config.mesh.space=4 .* 64 or 128"
    with pytest.raises(UserError, match=text):
        check_height(96, 16, "same", shardings)
    with pytest.raises(UserError, match="use a height of 64, or"):
        check_height(20, 16, "same", shardings)
    with pytest.raises(UserError, match=r'config.model.padding="same"'):
        check_height(128, 16, "valid", shardings)
    check_height(572, 16, "valid", make_shardings())


def test_arrays_are_split_along_the_longest_axis_that_divides():
    shardings = make_shardings(fsdp=4)
    shapes = {
        "kernel": (3, 3, 64, 128),
        "square": (3, 3, 64, 64),
        "odd": (3, 3, 130, 64),
        "never": (129, 129),
        "small": (4, LEAST_SPLIT // 4 - 1),
        "step": (),
    }
    tree = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes.items()}
    found = {name: tuple(where.spec) for name, where in split_state(tree, shardings).items()}
    assert found == {
        "kernel": (None, None, None, "fsdp"),
        "square": (None, None, None, "fsdp"),
        "odd": (None, None, None, "fsdp"),
        "never": (),
        "small": (),
        "step": (),
    }
    described = describe_split(tree, shardings)
    assert set(described) == {"kernel", "square", "odd", "never"}
    assert described["kernel"] == "(3, 3, 64, 128) axis 3 over fsdp=4"
    assert described["never"].endswith("whole: no axis divides")
    assert describe_split(tree, make_shardings()) == {}


@pytest.mark.parametrize("mesh", MESHES)
def test_a_batch_comes_back_as_it_went(mesh):
    shardings = make_shardings(*mesh)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 8, 6, 3)).astype(np.uint8)
    batch = {"image": image, "label": image[..., 0], "size": rng.random((16, 2), np.float32)}
    with jax.transfer_guard("disallow"):
        put = put_batch(batch, shardings)
        found = jax.device_get(put)
    for name, array in batch.items():
        np.testing.assert_array_equal(found[name], array)
    data, fsdp, space = mesh
    assert put["image"].addressable_shards[0].data.shape == (16 // data // fsdp, 8 // space, 6, 3)
    assert put["size"].addressable_shards[0].data.shape == (16 // data // fsdp, 2)
    np.testing.assert_array_equal(process_rows(16, shardings), np.arange(16))


# Average pooling and gelu: where two numbers are equal up to rounding, max and relu may choose
# either, and one choice moves the gradient by a thousandth.
SMOOTH = {"activation": "gelu", "pool": "average"}


def gradient(mesh, size, accumulate=1, **fields):
    """Moves the parameters by the gradient; returns the loss, the move and the compiled step."""
    shardings = make_shardings(*mesh)
    once = {"repeats": (1,), "decoder_repeats": (1,)}
    model = UNet(3, **{"features": (16, 32, 64)} | once | SMOOTH | fields)
    check_height(size[0], model.multiple(), model.padding, shardings)
    optim = {"name": "sgd", "learning_rate": 1.0, "schedule": "constant", "warmup": "0"}
    zero = {"momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}
    length = {"total_steps": 9, "epoch_steps": 1.0, "heads": model.heads()}
    optimizer = make_optimizer(**optim, **zero, **length, accumulate=accumulate)
    state = make_init(model, optimizer, (*size, 3), shardings)(jax.random.key(0))
    before = jax.device_get(replicate(state.params, shardings))
    loss = make_loss({"cross_entropy": {}, "dice": {}}, exclusive(3))
    flips = make_augment({"flip": {"left_right": True, "up_down": True}}, RGB.value_range)
    parts = model, loss, optimizer, flips, shardings, state
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, *size, 3)).astype(np.uint8)
    weight = (rng.random(image.shape[:-1]) < 0.8).astype(np.uint8)
    batch = put_batch({"image": image, "label": image[..., 0] // 86, "weight": weight}, shardings)
    key = replicate(jax.random.key(1), shardings)
    compiled = make_train_step(*parts).lower(state, batch, key).compile()
    for _ in range(accumulate):
        state, scalars = compiled(state, batch, key)
    after = jax.device_get(replicate(state.params, shardings))
    moved = jax.tree.map(lambda a, b: np.ravel(np.float64(a) - b), before, after)
    split = [x for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated]
    return float(scalars["train/loss"]), np.concatenate(jax.tree.leaves(moved)), compiled, split


@pytest.fixture(scope="module", params=["images", "volumes"])
def on_one_device(request):
    fields, size = {}, (32, 24)
    if request.param == "volumes":
        fields, size = {"dimensions": 3, "features": (16, 32), "repeats": (1, 2)}, (16, 8, 8)
    return size, fields, gradient((1, 1, 1), size, **fields)


def assert_is_gradient_of_one(found, one):
    """Compares losses and gradients."""
    assert found[0] == pytest.approx(one[0], rel=3e-6)
    # Every entry, since a kernel whose gradient is counted twice may be a small one.
    np.testing.assert_allclose(found[1], one[1], atol=1e-4 * np.abs(one[1]).max(), rtol=1e-2)
    assert np.linalg.norm(found[1] - one[1]) < 5e-5 * np.linalg.norm(one[1])


@pytest.mark.parametrize("mesh", MESHES)
def test_any_mesh_has_the_gradient_of_one_device(on_one_device, mesh):
    size, fields, one = on_one_device
    found = gradient(mesh, size, **fields)
    assert_is_gradient_of_one(found, one)
    *_, compiled, split = found
    text = compiled.as_text()
    assert ("all-gather" in text) == (mesh[1] > 1), "nothing but split parameters is gathered"
    assert ("collective-permute" in text) == (mesh[2] > 1), "neighbours exchange their edges"
    assert bool(split) == (mesh[1] > 1)


@pytest.fixture
def between_processes(monkeypatch):
    """Steps are made as if this process's devices were those of two."""
    two = SimpleNamespace(process_count=lambda: 2, platform=target.platform)
    monkeypatch.setattr(step, "target", two)
    return two


@pytest.mark.parametrize("devices", [2, 8])
def test_parts_have_the_gradient_of_one_device(on_one_device, devices, between_processes):
    size, fields, one = on_one_device
    found = gradient((devices, 1, 1), size, **fields)
    assert_is_gradient_of_one(found, one)
    norms = 4 if fields else 5  # one in every block of an encoder, the bottom and a decoder
    text = found[2].as_text()
    assert text.count(" all-gather(") == 2 * norms, "forward and backward"
    sums = [line.split(" all-reduce(")[0] for line in text.splitlines() if " all-reduce(" in line]
    assert len(sums) == 2, "those of the loss, and the gradient"
    assert sum(each.count("f32[") for each in sums) == 8, "seven, and the gradient as one array"


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": True, "squeeze_excite": 4, "block": "residual", "remat": (0, 2)},
        {"decoder": "unet++", "deep_supervision": 1, "accumulate": 2},
        {"norm": "group"},
    ],
)
def test_parts_of_any_model_have_the_gradient_of_one_device(fields, between_processes):
    size = (20, 12)
    found, one = (gradient((devices, 1, 1), size, **fields) for devices in (4, 1))
    assert_is_gradient_of_one(found, one)
    assert "all-gather" in found[2].as_text() or fields.get("norm"), "each by itself"


@pytest.mark.parametrize("shape", [(8, 5), (24, 3, 7, 4), (16, 1)])
def test_parts_are_told_of_all_and_their_gradients_summed(shape):
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=shape), rng.normal(size=shape[-1])
    factors = rng.normal(size=shape[:-1])

    def part(weights, shift, images):
        assert is_part()
        means = images.mean(tuple(range(images.ndim - 1)))
        mean = gather_parts(means).mean(0)
        return (images - mean.reshape((1,) * (images.ndim - 1) + (-1,))) @ weights[
            "w"
        ] + shift, mean

    assert not is_part()
    run = jax.jit(by_parts(part, make_shardings()))
    x32 = jnp.float32(x)
    (found, mean), backward = jax.vjp(lambda w: run({"w": w}, 2.0, x32), jnp.float32(weights))
    (moved,) = backward((jnp.float32(factors), jnp.zeros_like(mean)))
    centred = x - x.mean(tuple(range(x.ndim - 1)))
    np.testing.assert_allclose(found, centred @ weights + 2, atol=1e-5)
    expected = np.einsum("n,nc->c", factors.ravel(), centred.reshape(-1, shape[-1]))
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_what_goes_by_parts(between_processes, monkeypatch):
    plain, space, fsdp = make_shardings(), make_shardings(4, 1, 2), make_shardings(4, 2, 1)
    model = UNet(3, features=(4, 8), dropout=(0.0, 0.0))
    drops = UNet(3, features=(4, 8), dropout=(0.0, 0.5))
    skips = UNet(3, features=(4, 8), block="residual", stochastic_depth=0.1)
    assert step.goes_by_parts(model, plain)
    others = [(model, space), (model, fsdp), (drops, plain), (skips, plain)]
    assert not any(step.goes_by_parts(*each) for each in others)
    between_processes.platform = lambda: "tpu"
    assert not step.goes_by_parts(model, plain)
    monkeypatch.undo()
    assert not step.goes_by_parts(model, plain), "one process"


def test_meshes_divide_what_they_should():
    size = (64, 32)
    one, fsdp, space = (gradient(mesh, size) for mesh in [(1, 1, 1), (1, 8, 1), (1, 1, 8)])
    sizes = [found[2].memory_analysis() for found in (one, fsdp, space)]
    temporary = [analysis.temp_size_in_bytes for analysis in sizes]
    assert temporary[1] < temporary[0] / 4
    assert temporary[2] < temporary[0] / 4
    for leaf in fsdp[3]:
        assert leaf.addressable_shards[0].data.size == leaf.size // 8
    assert sum(leaf.size for leaf in fsdp[3]) > 3 * 3 * 64 * 64
