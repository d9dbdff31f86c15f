"""Images that are too large, too small, or at another scale than in training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from support.sources import Sized
from support.tasks import exclusive

from unet_jax import training
from unet_jax.data.pipeline import seen_share, train_batches
from unet_jax.data.sample import RGB, Sample
from unet_jax.data.sources import Loading, make_loading
from unet_jax.durations import make_plan
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.predict import predictor
from unet_jax.predict.eval_step import evaluation
from unet_jax.predict.fits import other_scale
from unet_jax.predict.predictor import Predictor
from unet_jax.process.capacity import program_bytes
from unet_jax.sharding import make_shardings

CROP = Loading((32, 32), "crop", 1)


class Blank(Sized):
    """Images of one value each."""

    def __init__(self, *sizes):
        super().__init__(sizes)

    def read(self, index):
        size = self.sizes[index]
        image = np.full((*size, 3), index, np.uint8)
        return Sample(image, np.zeros(size, np.uint8), self.ids[index], (1.0, 1.0))


def make(**changes):
    model = UNet(2, (4, 8), **changes)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, 16, 16, 3)), train=False))
    variables = init(jax.random.key(0))
    return model, jax.device_put(variables, make_shardings(1).replicated)


def needed(model, variables, size, batch_size):
    """Bytes of a plain program that evaluates such a batch, at least."""
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    x = jax.ShapeDtypeStruct((batch_size, *size, 3), np.float32)
    return program_bytes(apply.lower(variables, x).compile())


def test_an_image_too_large_for_memory_is_one_line_with_what_would_fit(monkeypatch):
    model, variables = make()
    source, there = Blank((40, 30), (512, 640)), 24 * 2**20
    assert needed(model, variables, (512, 640), 1) > there
    monkeypatch.setattr(predictor, "device_memory", lambda: there)
    step = Predictor(model, RGB, CROP, make_shardings(1), evaluation(exclusive(2)))
    with pytest.raises(UserError) as caught:
        list(step.batches(variables, source, 4))
    text = str(caught.value)
    assert text.startswith("image 'image_1' has 512x640 pixels (height x width): evaluating 1 of")
    assert "and there are 24.0 MiB" in text
    side = int(text.split("up to about ")[1].split("x")[0])
    # It does fit, and is not much less than what would.
    list(step.batches(variables, Blank((side, side)), 1))
    with pytest.raises(UserError, match="would fit"):
        list(step.batches(variables, Blank((side + 1, side + 1)), 1))
    with pytest.raises(UserError, match="image 'image_1' has 512x640"):  # by headers alone
        step.check(variables, source, 4)


def test_a_batch_too_large_for_memory_names_the_batch_that_fits(monkeypatch):
    model, variables = make()
    source, there = Blank(*[(128, 128)] * 8), 6 * 2**20
    monkeypatch.setattr(predictor, "device_memory", lambda: there)
    step = Predictor(model, RGB, CROP, make_shardings(1), evaluation(exclusive(2)))
    with pytest.raises(UserError, match=r"config.eval.batch_size=\d+ would fit") as caught:
        list(step.batches(variables, source, 8))
    batch_size = int(str(caught.value).split("batch_size=")[1].split()[0])
    assert 1 <= batch_size < 8
    assert len(list(step.batches(variables, source, batch_size))) == -(-8 // batch_size)


def test_few_images_of_a_size_are_not_filled_up_to_a_batch():
    model, variables = make()
    step = Predictor(model, RGB, CROP, make_shardings(1), evaluation(exclusive(2)))
    found = [batch for batch, _ in step.batches(variables, Blank((40, 30), (96, 30)), 16)]
    assert [batch["image"].shape for batch in found] == [(1, 64, 32, 3), (1, 96, 32, 3)]


def test_an_image_too_small_for_instance_norm_is_named():
    model, variables = make(norm="instance")
    step = Predictor(model, RGB, CROP, make_shardings(1), evaluation(exclusive(2)))
    with pytest.raises(UserError, match=r"^image 'image_1' \(2x1 pixels\) leaves 1 pixel at"):
        step.check(variables, Blank((8, 8), (2, 1)), 1, known=10**9)
    with pytest.raises(UserError, match=r"^image \'image_0\' \(2x1 pixels\)"):
        list(step.batches(variables, Blank((2, 1)), 1))


def test_images_that_are_shrunk_more_than_in_training():
    loading = Loading((100, 200), "resize", 1)
    # Training images of at most 300x400 are shrunk 3 times along their height.
    assert other_scale(Blank((300, 400), (320, 600), (10, 10)), loading, 3.0) is None
    line = other_scale(Blank((300, 400), (900, 400), (100, 1200)), loading, 3.0)
    assert line.startswith("2 of 3 images are shrunk more than any training image")
    assert "image_1 (900x400), 3.0 times" in line
    assert other_scale(Blank((900, 400)), loading, None) is None
    assert other_scale(Blank((900, 400)), CROP, 1.0) is None


def folder(root, sizes):
    for index, size in enumerate(sizes):
        for kind, array in (("images", np.zeros((*size, 3))), ("masks", np.zeros(size))):
            file = root / kind / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(file)


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_run_keeps_how_much_it_shrinks_and_tells_what_an_epoch_sees(fit, tmp_path, capsys):
    from configs import folder as page

    folder(tmp_path, [(48, 64), (96, 32), (60, 60), (30, 20), (64, 64)])
    for split, names in (("train", "0 1 2 3"), ("val", "4")):
        (tmp_path / f"{split}.txt").write_text("\n".join(names.split()))
    config: ConfigDict = page.get_config()
    config.data.update({"path": str(tmp_path), "fit": fit, "image_size": (32, 32)})
    config.data.crops = 2 if fit == "crop" else 1
    config.model.features = (4, 8)
    config.train.update({"duration": "1 epochs", "eval_every": "1 epochs", "batch_size": 2})
    config.mesh.data = 1
    config.eval.figures = False
    training.train_and_evaluate(config, tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    if fit == "resize":
        assert run["largest_shrinkage"] == 3.0  # 96 to 32
        assert "an epoch sees" not in said
        return
    assert "largest_shrinkage" not in run
    seen = 2 * (32 * 32 + 32 * 32 + 32 * 32 + 30 * 20)
    there = 48 * 64 + 96 * 32 + 60 * 60 + 30 * 20
    assert f"2 crops of 32x32 an image, {seen / there:.0%} of the pixels of 4 images" in said
    assert "steps 4 of 2 images, 1.0 epochs" in said


def test_crops_come_as_often_as_they_say_in_every_epoch():
    source, loading = Blank(*[(9, 9)] * 5), Loading((4, 4), "crop", 1, crops=3)
    assert make_plan("2 epochs", 3, images=5 * 3).total == 10
    batches = train_batches(source, loading, batch_size=3, seed=0, start=0, stop=10)
    shown = [int(image[0, 0, 0]) for batch in batches for image in batch["image"]]
    for epoch in (shown[:15], shown[15:]):
        assert sorted(epoch) == sorted([*range(5)] * 3)


def test_share_that_crops_see_of_their_images():
    sizes = [(10, 20), (4, 50)]
    assert seen_share(sizes, Loading((8, 8), "crop", 1)) == (8 * 8 + 4 * 8) / 400
    assert seen_share(sizes, Loading((8, 8), "crop", 1, 2, 5)) == 5 * (4 * 4 + 4 * 4) / 400


@pytest.mark.parametrize(("fit", "crops"), [("crop", 0), ("crop", -1), ("resize", 2)])
def test_crops_out_of_range(fit, crops):
    with pytest.raises(UserError, match=f"config.data.crops={crops} must be"):
        make_loading((8, 8), fit, 1, 0, crops)
