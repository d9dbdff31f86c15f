"""What a U-Net refuses: one clear line each, with the key to change."""

import re

import jax
import jax.numpy as jnp
import pytest
from support.paths import ROOT

from unet_jax.errors import UserError
from unet_jax.models.rules import CHOICES, check_options
from unet_jax.models.scales import rescale
from unet_jax.models.unet import UNet
from unet_jax.models.variants import section

RESNET = {"encoder": "resnet18", "features": (4,) * 5}
NESTED = {"decoder": "unet++", "features": (4,) * 5}
FULL = {"decoder": "unet3+"}
VALID = {"padding": "valid"}
MISFITS = [
    ({"features": ()}, r"features=\(\) must be channels per level"),
    ({"features": (4, 0)}, r"features=\(4, 0\) must be"),
    ({"features": ("a", "b")}, r"features=\('a', 'b'\) must be"),
    ({"width": 0.0}, r"width=0\.0 must be above 0"),
    ({"fold": 0}, r"fold=0 must be 1 or more"),
    ({"squeeze_excite": -1}, r"squeeze_excite=-1 must be 0 or more"),
    ({"stochastic_depth": 1.0}, r"stochastic_depth=1\.0 must be in \[0, 1\)"),
    ({"bottom_dilations": (1, 0)}, r"bottom_dilations=\(1, 0\) must be each 1 or more"),
    ({"deep_supervision": 2}, r"deep_supervision=2 must be 0 to 1, the levels between"),
    ({"skips_off": (2,)}, r"skips_off=\(2,\) must be levels of 0 to 1, which have skips"),
    ({"remat": (3,)}, r"remat=\(3,\) must be levels of 0 to 2, which have blocks"),
    ({"repeats": (1, 2)}, r"repeats=\(1, 2\) must be one number for all levels or 3"),
    ({"repeats": (0,)}, r"repeats=\(0,\) must be .* each 1 or more"),
    ({"decoder_repeats": (1, 2, 3)}, r"decoder_repeats=\(1, 2, 3\) must be .* or 2"),
    ({"dropout": (0.1, 0.2)}, r"dropout=\(0\.1, 0\.2\) must be one number .* or 3"),
    ({"dropout": (1.0,)}, r"dropout=\(1\.0,\) must be .* each in \[0, 1\)"),
    ({"up_filters": ((2, 0, 2),) * 3}, r"up_filters=.* must be one \(f, p, s\) .* or 2"),
    ({"up_filters": ((2, 2, 2),)}, r"\(f=2, p=2, s=2\) must have f, s >= 1 and 0 <= p < f"),
    ({"up_filters": ((2, 0, 0),)}, r"\(f=2, p=0, s=0\) must have f, s >= 1"),
    ({"up_filters": ((3, 0, 2),)}, r"\(f=3, p=0, s=2\) does not make n .* p from 1 to 1"),
    ({"up_filters": ((4, 2, 2),)}, r"\(f=4, p=2, s=2\) does not make n .* p from 1 to 1"),
    ({**VALID, "decoder": "unet++"}, r"'valid' .* needs config\.model\.decoder='unet'"),
    ({**VALID, "pool": "stride"}, r"'valid' .* needs config\.model\.pool='max' or 'average'"),
    ({**VALID, "attention": True}, r"'valid' .* needs config\.model\.attention=False"),
    ({**VALID, "fold": 2}, r"'valid' .* needs config\.model\.fold=1"),
    ({**VALID, "up": "bilinear"}, r"'valid' .* needs config\.model\.up='transpose' or"),
    ({**VALID, "deep_supervision": 1}, r"'valid' .* needs config\.model\.deep_supervision=0"),
    ({"up": "unpool", "pool": "average"}, r"up='unpool' .* needs config\.model\.pool='max'"),
    ({"prune": 1}, r"prune=1 needs config\.model\.decoder='unet\+\+'"),
    ({**NESTED, "deep_supervision": 2, "prune": 1}, r"prune=1 needs .* columns 2 to 3"),
    ({**NESTED, "deep_supervision": 2, "prune": 4}, r"prune=4 needs .* columns 2 to 3"),
    ({"up": "nearest", "up_initial": "bilinear"}, r"'bilinear' is where .*\.up='transpose'"),
    ({"up": "bilinear", "up_filters": ((4, 1, 2),)}, r"up_filters=.* must be \(s, 0, s\)"),
    ({**FULL, "up": "bilinear"}, r"'unet3\+' .* needs config\.model\.up='transpose'"),
    ({**FULL, "up_initial": "bilinear"}, r"'unet3\+' .* config\.model\.up_initial='random'"),
    ({**FULL, "up_filters": ((4, 1, 2),)}, r"'unet3\+' .* needs \(f, p, s\) .* \(s, 0, s\)"),
    ({**FULL, "decoder_block": "residual"}, r"'unet3\+' .* config\.model\.decoder_block=''"),
    ({**FULL, "decoder_repeats": (1,)}, r"'unet3\+' .* config\.model\.decoder_repeats=\(2,\)"),
    ({**FULL, "attention": True}, r"'unet3\+' .* needs config\.model\.attention=False"),
    ({"stochastic_depth": 0.5}, r"stochastic_depth skips residual units: it needs .*block"),
    ({**RESNET, "dimensions": 3}, r"encoder='resnet18' .* needs config\.model\.dimensions=2"),
    ({**RESNET, "features": (4,) * 4}, r"'resnet18' .* needs five config\.model\.features"),
    ({**RESNET, "up_filters": ((3, 0, 3),)}, r"'resnet18' .* stride 2 in config\.model\.up_fi"),
    ({**RESNET, **VALID}, r"'resnet18' .* needs config\.model\.padding='same'"),
    ({**RESNET, "fold": 2}, r"'resnet18' .* needs config\.model\.fold=1"),
    ({**RESNET, "repeats": (3,)}, r"'resnet18' .* needs config\.model\.repeats=\(2,\)"),
    ({**RESNET, "stem": True}, r"'resnet18' .* needs config\.model\.stem=False"),
    ({**RESNET, "pool": "average"}, r"'resnet18' .* needs config\.model\.pool='max'"),
    ({**RESNET, "up": "unpool"}, r"'resnet18' .* needs config\.model\.up other than 'unpool'"),
    ({**RESNET, "dropout": (0.5,)}, r"'resnet18' .* needs config\.model\.dropout=\(\)"),
    (
        {**RESNET, "bottom_dilations": (1, 2)},
        r"'resnet18' .* needs config\.model\.bottom_dilations=\(\)",
    ),
    ({**RESNET, "skips_off": (0,)}, r"skips_off=\(0,\) must be levels of 1 to 4"),
    ({**RESNET, "remat": (5,)}, r"remat=\(5,\) must be levels of 0 to 4"),
]


@pytest.mark.parametrize(("fields", "message"), MISFITS)
def test_misfits_name_the_key(fields, message):
    model = UNet(3, **{"features": (4, 8, 12)} | fields)
    with pytest.raises(UserError, match=rf"config\.model\..*{message}") as caught:
        check_options(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_listed(name):
    value = 4 if name == "dimensions" else "nosuch"
    first = next(iter(CHOICES[name]))
    with pytest.raises(UserError, match=rf"config\.model\.{name}={value!r} is not known") as caught:
        check_options(UNet(3, (4, 8), **{name: value}))
    assert f"allowed are {first}" in str(caught.value)


def test_images_of_other_dimensions():
    with pytest.raises(UserError, match=r"dimensions=3 takes \[B, 3 sizes, C\], not \(1, 8, 8, 3"):
        UNet(3, (4, 8), dimensions=3).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)


@pytest.mark.parametrize(
    "fields",
    [
        {**NESTED, "deep_supervision": 2, "prune": 3},
        {"decoder_block": "residual", "stochastic_depth": 0.5},
        {"up_filters": ((5, 1, 3), (4, 1, 2)), "up_initial": "bilinear"},
        {"up": "nearest", "up_filters": ((3, 0, 3), (2, 0, 2))},
        {**FULL, "block": "residual", "up_filters": ((3, 0, 3), (2, 0, 2))},
        {"width": 0.5, "remat": (0, 2), "skips_off": (0, 1), "bottom_dilations": (1, 2, 4)},
        {**RESNET, "remat": (0, 4), "skips_off": (1, 4), "up_filters": ((4, 1, 2),) * 5},
        {**RESNET, "decoder": "unet++", "deep_supervision": 4, "attention": True},
    ],
)
def test_what_fits_passes(fields):
    check_options(UNet(3, **{"features": (4, 8, 12)} | fields))


def test_width_rounds_to_multiples_of_8():
    def channels(width, features):
        model = UNet(3, features, width)
        x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
        shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
        kernels = (shapes["params"][k]["Conv_1"]["kernel"] for k in ("encoder_0", "bottom_1"))
        return tuple(kernel.shape[-1] for kernel in kernels)

    assert channels(1.0, (5, 9)) == (5, 9)
    assert channels(0.5, (64, 90)) == (32, 48)
    assert channels(0.01, (64, 128)) == (8, 8)


def test_scales_are_what_weights_were_trained_on():
    from unet_jax.augment.scale import standardise

    x = jax.random.uniform(jax.random.key(0), (2, 4, 4, 3))
    image = standardise(x)
    assert rescale(image, "standardised") is image
    assert jnp.allclose(rescale(image, "unit"), x, atol=1e-6)
    mean, std = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])
    expected = (x - mean.reshape(1, 1, 1, 3)) / std.reshape(1, 1, 1, 3)
    assert jnp.allclose(rescale(image, "imagenet"), expected, atol=1e-5)
    grey = (x[..., :1] - mean.mean()) / std.mean()
    assert jnp.allclose(rescale(image[..., :1], "imagenet"), grey, atol=1e-5)


def test_the_model_rescales_its_input_before_it_pads():
    image = jax.random.normal(jax.random.key(1), (1, 13, 11, 3))
    models = [UNet(3, (4, 8), input_scale=scale) for scale in ("imagenet", "standardised")]
    variables = jax.jit(lambda key: models[0].init(key, image, train=False))(jax.random.key(0))
    found, expected = (
        jax.jit(lambda v, x, m=model: m.apply(v, x, train=False))(variables, x)
        for model, x in zip(models, (image, rescale(image, "imagenet")), strict=True)
    )
    assert jnp.allclose(found, expected, atol=1e-6)
    for variant in ("resnet18", "resnet34", "resnet50"):
        assert section(variant)["input_scale"] == "imagenet"


def test_the_words_of_the_guide_are_allowed():
    guide = (ROOT / "docs" / "guide" / "models.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \|$", guide, flags=re.MULTILINE)
    listed = {key: set(re.findall(r"`([^`]+)`", words)) for key, words in rows}
    assert len(listed) == 9
    assert all(words <= set(CHOICES[key]) for key, words in listed.items())
