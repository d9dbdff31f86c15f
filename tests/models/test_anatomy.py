import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from PIL import Image

from unet_jax.explain import draw_unet, unet_layout
from unet_jax.models import anatomy
from unet_jax.models.unet import UNet


def test_unet_shapes_are_those_of_the_model():
    model, size = UNet(5, (4, 8, 16)), (20, 24)
    found = anatomy.dissect(model, size)
    image = jnp.zeros((1, *size, 3))

    def whole(key):
        variables = model.init(key, image, train=False)
        kept = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return variables, *model.apply(variables, image, train=False, **kept)

    variables, logits, state = jax.eval_shape(whole, jax.random.key(0))
    captured = state["intermediates"]
    assert found.output == logits.shape[1:] == (20, 24, 5)
    names = {"encoder_0", "encoder_1", "bottom_2", "up_1", "decoder_1", "up_0", "decoder_0", "head"}
    assert {block.name for block in found.blocks} == names
    for block in found.blocks:
        assert block.output == captured[block.name]["__call__"][0].shape[1:]
        leaves = jax.tree.leaves(variables["params"][block.name])
        assert block.parameters == sum(leaf.size for leaf in leaves)
        convs = [v for k, v in captured[block.name].items() if k.startswith("Conv")]
        assert [s.shape for s in block.stages if block.role != "head"] == [
            conv["__call__"][0].shape[1:] for conv in convs
        ]
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found.skips == (0, 1)
    decoder = found.find("decoder", 0)
    assert decoder is not None
    assert decoder.input == (20, 24, 8)  # four channels of the skip, four from below
    assert found.find("up", 1).label == "transposed conv 2x2, stride 2"


class Other(nn.Module):
    """Blocks of other models: nested nodes, a strided way down, an encoder as one module."""

    nested: bool

    @nn.compact
    def __call__(self, x, *, train):
        if self.nested:
            first = nn.Conv(4, (3, 3), name="encoder_0")(x)
            low = nn.Conv(8, (3, 3), strides=2, name="bottom_1")(first)
            up = nn.ConvTranspose(4, (2, 2), (2, 2), name="up_0_1")(low)
            x = nn.Conv(4, (3, 3), name="node_0_1")(jnp.concatenate([first, up], -1))
        else:
            x = Encoder(name="encoder")(x)
            x = nn.ConvTranspose(4, (2, 2), (2, 2), name="up_0")(x)
            x = nn.Conv(4, (3, 3), name="decoder_0")(x)
        return nn.Conv(2, (1, 1), name="head")(x)


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        for k, strides in enumerate((1, 1, 2)):
            x = nn.Conv(4, (3, 3), strides=strides, name=f"unit{k}")(x)
        return x


def test_unet_of_other_blocks(tmp_path):
    nested = anatomy.dissect(Other(True), (8, 8))
    node = nested.find("node", 0, 1)
    assert node is not None
    assert (node.input, node.output) == ((8, 8, 8), (8, 8, 4))
    assert nested.skips == (0,)
    assert nested.find("bottom", 1).stages[0].label == "conv 3x3, stride 2"
    alone = anatomy.dissect(Other(False), (8, 8))
    assert alone.skips == ()
    assert [(b.name, b.level) for b in alone.blocks if b.role == "encoder"] == [
        ("encoder/unit1", 0),
        ("encoder/unit2", 1),
    ]
    for k, found in enumerate((nested, alone)):
        draw_unet.write_unet(tmp_path / f"{k}.png", found, "A title")
        with Image.open(tmp_path / f"{k}.png") as image:
            assert image.width >= 900


def test_unet_figure_has_every_shape():
    found = anatomy.dissect(UNet(3, (4, 8, 16)), (32, 48))
    rows, slot, width = unet_layout.rows_of(found)
    shapes = {row.block.name: [tuple(bar.shape) for bar in row.bars] for row in rows}
    assert shapes["encoder_1"] == [(16, 24, 4), (16, 24, 8), (16, 24, 8)]
    assert shapes["bottom_2"] == [(8, 12, 8), (8, 12, 16), (8, 12, 16)]
    assert shapes["decoder_0"] == [(32, 48, 8), (32, 48, 4), (32, 48, 4)]
    assert {row.block.name: row.bars[0].joined for row in rows}["decoder_1"] == 8
    for row in rows:
        assert 0 < row.left < row.left + len(row.bars) * slot < width


def test_flops_are_those_of_the_definition_also_where_winograd_computes():
    model, size = UNet(5, (64, 128, 256)), 16
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)

    def block(n, c, f):  # a tap outside the image is no product: 3n - 2 taps per axis
        return 2 * (3 * n - 2) ** 2 * (c * f + f * f)

    convolutions = block(16, 3, 64) + block(8, 64, 128) + block(4, 128, 256)
    convolutions += 2 * 8**2 * 256 * 128 + block(8, 256, 128)
    convolutions += 2 * 16**2 * 128 * 64 + block(16, 128, 64) + 2 * 16**2 * 64 * 5
    kernels = [x.size for x in jax.tree.leaves(shapes["params"]) if x.shape[:2] == (3, 3)]
    scaled = sum(kernels)  # by batch normalisation, once for all images
    found = [anatomy.forward_flops(model, shapes, (b, size, size, 3)) - scaled for b in (1, 3)]
    assert convolutions <= found[0] <= 1.02 * convolutions  # shifts, activations, pooling
    assert found[1] == pytest.approx(3 * found[0], rel=1e-3)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((32, 48), ["An image of 32x48x3", "per pixel", "max pool 2x2", "bar heightxwidthx"]),
        (
            (16, 16, 16),
            ["A volume of 16x16x16x3", "per voxel", "max pool 2x2x2", "bar depthxheightxwidthx"],
        ),
    ],
)
def test_unet_figure_speaks_of_its_axes(size, says, tmp_path, monkeypatch):
    written = []
    text = draw_unet.Canvas.text

    def record(self, x, y, content, *args, **look):
        written.append(content)
        return text(self, x, y, content, *args, **look)

    monkeypatch.setattr(draw_unet.Canvas, "text", record)
    found = anatomy.dissect(UNet(3, (4, 8), dimensions=len(size)), size)
    draw_unet.write_unet(tmp_path / "unet.png", found, "A title")
    for part in says:
        assert any(part in content.replace(draw_unet.TIMES, "x") for content in written), part


def test_only_sizes_are_typeset():
    found = anatomy.dissect(UNet(3, (4, 8), up="pixel_shuffle", skips_off=(0,)), (16, 16))
    assert found.skips == ()
    label = unet_layout.way_up(found, 0)
    assert label.startswith("conv, pixel shuffle, stride 2 (")
    assert unet_layout.typeset("transposed conv 12x3x3") == "transposed conv 12\u00d73\u00d73"
