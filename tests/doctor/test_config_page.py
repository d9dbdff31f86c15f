import subprocess
import sys
from importlib.util import find_spec

import pytest
from support.paths import ROOT

from unet_jax.defaults import page
from unet_jax.doctor.config_page import write_page
from unet_jax.doctor.mends import apply, flag
from unet_jax.page import PAGES, load_page

ODD = ("it's", 'a"b', "both ' and \"", "back\\slash", "\n", "é", '"', "a" * 90)


def odd():
    """A config with every kind of value that is hard to write."""
    folder = {"class_names": ODD, "label_map": ((0, 0), (255, 1)), "exclude": ("x",)}
    return page(
        data={"source": "folder", "path": 'my "set"', "folder": folder, "value_range": (-1.5, 2e9)},
        augment={"zoom": {"aspect": 1.2}, "flip": {}},
        loss={"dice": {"weight": 0.5}},
        optim={"learning_rate": 1e-05, "accumulate": 3},
    )


def configs():
    yield odd()
    yield page()
    for file in sorted(PAGES.glob("*.py")):
        yield load_page(str(file))


def test_a_page_makes_the_config_that_it_was_written_of(tmp_path):
    for number, config in enumerate(configs()):
        file = tmp_path / f"{number}.py"
        file.write_text(write_page(config, 'About """it""" \\ all.\n'))
        again = load_page(str(file))
        assert again.to_dict() == config.to_dict()
        assert list(again.augment) == list(config.augment)
        assert list(again.loss) == list(config.loss)


@pytest.mark.skipif(not find_spec("ruff"), reason="needs ruff")
def test_a_page_is_formatted_as_ruff_would(tmp_path):
    for number, config in enumerate(configs()):
        (tmp_path / f"{number}.py").write_text(write_page(config, "About it.\n\nIn two parts.\n"))
    ruff = [sys.executable, "-m", "ruff"]
    settings = [f"--config={ROOT / 'pyproject.toml'}", "--no-cache", str(tmp_path)]
    for command in (["format", "--check"], ["check", "--ignore=D103"]):
        done = subprocess.run([*ruff, *command, *settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_flags_can_be_pasted():
    for value in (("a", "it's"), ((0, 0), (255, 1)), 0.25, True, "^(.*?)$", ODD):
        text = flag("data.x", value)
        shown = subprocess.run(["sh", "-c", f"printf %s {text}"], capture_output=True, text=True)
        expected = value if isinstance(value, str) else repr(value)
        assert shown.stdout == f"--config.data.x={expected}"
    assert flag("data.x", ("a",)) == "--config.data.x=\"('a',)\""


def test_values_are_set_in_a_copy():
    config = page(augment={"zoom": {"aspect": 1.2}, "flip": {}})
    changed = apply(config, {"data.fit": "crop", "loss.dice.weight": 0.5, "train.batch_size": 2})
    assert (changed.data.fit, changed.loss.dice.weight, changed.train.batch_size) == (
        "crop",
        0.5,
        2,
    )
    assert list(changed.augment) == ["zoom", "flip"]
    assert config.data.fit == "resize"
    assert "dice" not in config.loss
