"""The literal defaults are those of the functions whose arguments a section is."""

import json
import runpy

import pytest
from ml_collections import ConfigDict
from support.paths import ROOT

from unet_jax.config import keys_of, load, to_json
from unet_jax.data.folder import open_folder
from unet_jax.data.normalise import make_normalise
from unet_jax.data.sets.pets import open_tfds
from unet_jax.data.sources import open_data
from unet_jax.data.split_rules import make_rules
from unet_jax.data.synthetic import open_synthetic
from unet_jax.defaults import DEFAULTS, complete, page
from unet_jax.durations import make_plan
from unet_jax.errors import UserError
from unet_jax.experiment import assemble
from unet_jax.models.pretrained.weights import make_pretrained
from unet_jax.models.unet import UNet
from unet_jax.network import make_eval_settings, make_tile_settings
from unet_jax.optim.make import make_optimizer
from unet_jax.sharding import make_shardings
from unet_jax.studies.pages import make_config, parse_overrides
from unet_jax.task import make_task

PAGES = sorted((ROOT / "configs").glob("*.py"))
# Which function a section configures, and which of its arguments are no keys of it.
ON_DISK = ("path", "val_fraction", "split_seed", "largest_file", "kept", "rules")
FUNCTIONS = {
    "data": (open_data, ("kept",)),
    "data.normalise": (make_normalise, ()),
    "data.folder": (open_folder, ON_DISK),
    "data.tfds": (open_tfds, ON_DISK),
    "data.split": (make_rules, ("fold", "folds")),
    "data.synthetic": (open_synthetic, ("split_seed", "rules")),
    "model": (UNet, ("num_classes",)),
    "pretrained": (make_pretrained, ("read_run",)),
    "task": (make_task, ("class_names",)),
    "optim": (make_optimizer, ("total_steps", "epoch_steps", "heads", "frozen")),
    "train": (make_plan, ("images", "horizon", "group")),
    "eval": (make_eval_settings, ()),
    "eval.tiles": (make_tile_settings, ()),
    "mesh": (make_shardings, ()),
}


def leaves(values, prefix=""):
    """Yields every key of every section with its default."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("section", FUNCTIONS)
def test_literals_are_the_functions_own_defaults(section):
    function, hidden = FUNCTIONS[section]
    literal = DEFAULTS
    for part in section.split("."):
        literal = literal[part]
    expected = {name: p.default for name, p in keys_of(function, hidden).items()}
    if section == "data":  # sections of their own, above
        below = [name for name, value in literal.items() if isinstance(value, dict)]
        assert below == ["normalise", "split", "folder", "tfds", "synthetic"]
        assert [expected.pop(name) for name in below] == [None] * 5
        literal = {name: value for name, value in literal.items() if not isinstance(value, dict)}
    if section == "eval":  # by `PARTS`, and a section of its own
        literal = literal | {"metrics": None, "tiles": None}
    assert literal == expected
    assert {name: type(value) for name, value in literal.items()} == {
        name: type(value) for name, value in expected.items()
    }


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_every_key_can_be_set_on_every_page(file):
    keys = dict(leaves(DEFAULTS))
    assert len(keys) > 70
    texts = [f"{key}={value}" for key, value in keys.items()]
    found = parse_overrides(str(file), texts)
    assert found == keys
    config = make_config(str(file), keys)
    assert dict(leaves(config.to_dict())) | keys == dict(leaves(config.to_dict()))


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_pages_are_short_and_say_what_to_expect(file):
    text = file.read_text()
    assert 20 <= len(text.splitlines()) <= 30
    says = text.split('"""')[1]
    assert "xpected" in says
    assert "not measured" in says or ("hours" in says and "mIoU" in says)


def test_a_page_says_what_differs():
    config = page(optim={"accumulate": 2}, data={"synthetic": {"train": 7}})
    values = json.loads(json.dumps(DEFAULTS)) | {}
    values["optim"]["accumulate"], values["data"]["synthetic"]["train"] = 2, 7
    assert json.loads(to_json(config)) == values


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"optimiser": {}}, r"^config\.optimiser is no section of a config; allowed are data, aug"),
        (
            {"optim": {"rate": 1.0}},
            r"^config\.optim\.rate is not a config key; allowed are name",
        ),
        ({"data": {"tfds": {"x": 1}}}, r"^config\.data\.tfds\.x is not .* are verify_checksums"),
        ({"data": {"tfds": 5}}, r"^config\.data\.tfds=5 must be a section of keys"),
        ({"train": 5}, r"^config\.train=5 must be a section of keys"),
    ],
)
def test_a_page_of_unknown_keys(sections, says):
    with pytest.raises(UserError, match=says):
        page(**sections)


def test_what_a_page_of_its_own_lacks_is_filled_and_references_stay():
    config = ConfigDict({"train": {"batch_size": 4}, "optim": {}, "x": {"a": 1}, "eval": 5})
    config.optim.accumulate = config.train.get_ref("batch_size")
    whole = complete(config)
    assert set(whole.optim) == set(DEFAULTS["optim"])
    assert whole.x.to_dict() == {"a": 1}
    assert whole.eval == 5
    whole.train.batch_size = 16
    assert whole.optim.accumulate == 16


def test_a_config_of_few_keys_is_a_whole_experiment():
    few = {name: {} for name in DEFAULTS}
    few["data"] = {"synthetic": {"train": 4, "size": 16}, "image_size": (16, 16)}
    few["model"], few["train"] = {"features": (4,)}, {"batch_size": 4, "duration": "2 steps"}
    few["mesh"] = {"data": 1}
    assert assemble(ConfigDict(few)).plan.total == 2


def test_a_run_of_a_version_without_some_keys_and_sections(tmp_path):
    config = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()
    old = json.loads(to_json(config))
    del old["mesh"], old["pretrained"], old["optim"]["horizon"], old["data"]["tfds"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(old))
    assert load(file).to_dict() == config.to_dict()
