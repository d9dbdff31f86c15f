"""--mode=augment shows what the first steps of a training see."""

import jax
import numpy as np
import pytest
from PIL import Image
from support.configs import make_config

from unet_jax import figures, sheet
from unet_jax.augment.make import make_augment
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import RGB
from unet_jax.defaults import to_config
from unet_jax.errors import UserError
from unet_jax.experiment import assemble


@pytest.fixture
def config():
    config = make_config()
    config.train.batch_size = config.eval.batch_size = 4
    config.loss.cross_entropy.border_weight = 5.0
    config.augment = to_config({"rotation": {"degrees": 45.0}, "cutmix": {"share": (0.1, 0.3)}})
    return config


def test_a_sheet_holds_the_first_images_of_a_training(config, tmp_path, monkeypatch):
    drawn = []
    draw = figures.augmentation_sheet
    monkeypatch.setattr(figures, "augmentation_sheet", lambda *a: (drawn.append(a), draw(*a)))
    file = sheet.draw_sheet(config, tmp_path / "new" / "sheet")
    with Image.open(file) as opened:
        assert opened.width > 1000
    (_, pairs, names, title, ids) = drawn[0]
    assert ids == [f"step {n // 4}, row {n % 4}" for n in range(6)]
    assert "(rotation, cutmix)" in title
    e = assemble(config)
    assert names == e.dataset.class_names
    order = {"batch_size": 4, "seed": 0, "start": 0, "stop": 2}
    batches = list(train_batches(e.dataset.splits["train"], e.loading, **order))
    augment = make_augment(config.augment.to_dict(), RGB.value_range)
    key = jax.random.split(jax.random.key(0))[1]  # the first one initialises
    for n, (before, after) in enumerate(pairs):
        step, row = divmod(n, 4)
        given, border = batches[step], batches[step]["extras"]["border"]
        arrays = (given[name] for name in ("image", "label", "weight"))
        found = augment(*arrays, jax.random.fold_in(key, step), border)
        np.testing.assert_array_equal(before.image, given["image"][row])
        np.testing.assert_array_equal(before.label, given["label"][row])
        np.testing.assert_array_equal(before.extras["border"], border[row])
        assert np.abs(after.image - np.asarray(found[0][row]) * 255.0).max() < 1
        np.testing.assert_array_equal(after.label, found[1][row])
        np.testing.assert_array_equal(after.weight, found[2][row])
        np.testing.assert_array_equal(after.extras["border"], found[3][row])


def test_a_folder_that_cannot_be_written_is_said_in_one_line(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir=.*file cannot be written: File exists; choose"):
        sheet.draw_sheet(config, tmp_path / "file")
