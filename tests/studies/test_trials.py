import json
import runpy

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from support.paths import ROOT

from unet_jax.compare import differences
from unet_jax.config import load, to_json
from unet_jax.data.sources import open_data
from unet_jax.errors import UserError
from unet_jax.runs.workdir import is_finished
from unet_jax.studies import trials
from unet_jax.studies.naming import make_trials
from unet_jax.studies.pages import make_config, parse_overrides
from unet_jax.studies.study import Study, choices, grid, seeds, values

PAGE = "configs/oxford_pets.py:cpu"
STUDY = Study(PAGE, grid(choices("size", {"s": {"model.features": (4, 8)}}), seeds(2)))


def command_line_config(*given):
    argv, found = ["x", *given], flags.FlagValues()
    config = runpy.run_path(str(ROOT / "configs/oxford_pets.py"))["get_config"]("cpu")
    config_flags.DEFINE_config_dict("config", config, flag_values=found, sys_argv=argv)
    found(argv)
    return config


def test_folds_are_one_line_of_a_page():
    small = {"train": 5, "val": 2, "test": 3, "size": 8}
    base = {"data.folds": 3, **{f"data.synthetic.{key}": n for key, n in small.items()}}
    study = Study("configs/tiny.py", values("data.fold", *range(3)), base)
    found = make_trials(study)
    assert [trial.factors for trial in found] == [{"fold": str(k)} for k in range(3)]
    val = []
    for trial in found:
        dataset, _ = open_data(**make_config(study.page, trial.overrides).data)
        assert list(dataset.splits["test"].ids) == [f"test_{i:05d}" for i in range(3)]
        val += dataset.splits["val"].ids
    names = [("train", 5), ("val", 2)]
    assert sorted(val) == [f"{name}_{i:05d}" for name, n in names for i in range(n)]


def test_a_config_is_that_of_the_command_line():
    overrides = {
        "model.features": [4, 8],  # as trial.json has it
        "optim.learning_rate": 1,
        "augment.flip.left_right": False,
        "train.duration": "3 steps",
        "model.up_filters": ((4, 1, 2),),
    }
    wanted = command_line_config(
        "--config.model.features=(4,8)",
        "--config.optim.learning_rate=1",
        "--config.augment.flip.left_right=false",
        "--config.train.duration=3 steps",
        "--config.model.up_filters=((4,1,2),)",
    )
    assert to_json(make_config(PAGE, overrides)) == to_json(wanted)
    assert to_json(make_config(PAGE, {})) != to_json(wanted)


def test_set_is_read_as_the_command_line_would():
    given = ["data.source=folder", "optim.learning_rate=1", "model.features=4,8", "train.seed=3"]
    found = parse_overrides(PAGE, [*given, "augment.flip.left_right=false"])
    assert found == {
        "data.source": "folder",
        "optim.learning_rate": 1.0,
        "model.features": (4, 8),
        "train.seed": 3,
        "augment.flip.left_right": False,
    }
    assert type(found["optim.learning_rate"]) is float
    assert parse_overrides(PAGE, []) == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"model.upp": 1},
            r"^model\.upp is not a config key; in configs.*:cpu, config\.model has ",
        ),
        ({"modle.up": 1}, r"^modle\.up is not a config key; in .*, config has .*model"),
        ({"train.seed.x": 1}, r"^train\.seed\.x is not a .*, config\.train\.seed has 0\.$"),
        ({"train": {"seed": 1}}, r"^train is a section of .*; give a value for one of .*seed"),
        (
            {"train.seed": 0.5},
            r"^train\.seed=0\.5 is of type float; in .*:cpu it is 0, of type int",
        ),
        ({"train.seed": True}, r"^train\.seed=True is of type bool; .* of type int"),
        ({"model.features": 8}, r"^model\.features=8 is of type int; .*\(16, 32.*of type tuple"),
        ({"train.duration": 30}, r"^train\.duration=30 is of type int.*of type str"),
        ({"augment.flip.left_right": 1}, r"^augment\.flip\.left_right=1 is of .*of type bool"),
        ({"augment.flip_lr": True}, r"^config\.augment\.flip_lr .* now: config\.augment\.flip\.l"),
    ],
)
def test_values_that_do_not_fit_the_page(overrides, message):
    with pytest.raises(UserError, match=message) as error:
        make_config(PAGE, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("train.seed", r"^--set=train\.seed must be KEY=VALUE"),
        ("train.sed=1", r"^train\.sed is not a config key; in .* has .*seed"),
        ("train=1", r"^--set=train=1: train is a section"),
        ("train.seed=x", r"^--set: flag --config\.train\.seed=x: invalid literal for int"),
    ],
)
def test_what_set_refuses(given, message):
    with pytest.raises(UserError, match=message) as error:
        parse_overrides(PAGE, [given])
    assert "\n" not in str(error.value)


def test_pages_that_are_none():
    with pytest.raises(UserError, match=r"page 'configs/nix\.py' is no file; give a config page"):
        make_config("configs/nix.py", {})
    with pytest.raises(UserError, match=r"configs/oxford_pets\.py, line \d+: .*is no recipe"):
        make_config("configs/oxford_pets.py:x", {})


def test_what_is_written_is_read_again(tmp_path):
    made = make_trials(STUDY)
    assert trials.read_study(tmp_path) is None
    assert trials.read_trial(tmp_path) is None
    trials.write_study(tmp_path, ROOT / "x.py", {"size": "s"}, made)
    record = trials.read_study(tmp_path)
    assert record is not None
    assert record.baseline == {"size": "s"}
    assert record.factors == {"size": ["s"], "seed": ["0", "1"]}
    assert record.trials == [trial.name for trial in made]
    assert record.study == str(ROOT / "x.py")
    folder = tmp_path / made[1].name
    trials.prepare(folder, made[1], make_config(PAGE, made[1].overrides))
    again = trials.read_trial(folder)
    assert again is not None
    assert again.factors == {"size": "s", "seed": "1"}
    assert again.overrides == {"model.features": [4, 8], "train.seed": 1}
    assert again.name == folder.name
    assert load(folder / "config.json").train.seed == 1
    assert not is_finished(folder)
    (folder / "trial.json").write_text("{")
    with pytest.raises(UserError, match=r"trial\.json is not what a sweep wrote"):
        trials.read_trial(folder)


def test_a_folder_of_another_config_is_refused_with_what_changed(tmp_path):
    trial = make_trials(STUDY)[0]
    folder, config = tmp_path / trial.name, make_config(PAGE, trial.overrides)
    trials.check(folder, config)
    assert not folder.exists()
    trials.prepare(folder, trial, config)
    trials.check(folder, config)
    moved = make_config(PAGE, {**trial.overrides, "data.path": "/x", "data.source": "folder"})
    assert differences(config, moved)
    assert trials.check(folder, moved) == []
    elsewhere = {"eval.batch_size": 2, "eval.shown": 1, "mesh.fsdp": 2, "data.workers": 3}
    (line,) = trials.check(folder, make_config(PAGE, {**trial.overrides, **elsewhere}))
    assert line.startswith("another mesh than the run's: config.mesh.fsdp: 1 -> 2;")
    other = make_config(PAGE, {**trial.overrides, "optim.weight_decay": 0.5, "data.path": "/x"})
    with pytest.raises(UserError) as error:
        trials.check(folder, other)
    assert f"{folder} holds a run of another config: config.optim.weight_decay: 0.01 -> 0.5." in (
        str(error.value)
    )
    assert "data.path" not in str(error.value)


def test_the_last_line_is_the_last_whole_one(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert trials.last_line(tmp_path) == {"step": 0}
    file.write_text("")
    assert trials.last_line(tmp_path) == {"step": 0}
    file.write_text('{"step": 1')
    assert trials.last_line(tmp_path) == {"step": 0}
    file.write_text('{"step": 1}\n')
    assert trials.last_line(tmp_path) == {"step": 1}
    long = "".join(json.dumps({"step": step, "x": "y" * 90}) + "\n" for step in range(500))
    file.write_text(long + '{"st')
    assert trials.last_line(tmp_path)["step"] == 499


def test_training_seconds():
    # Ten steps of eight images at 4 images/s, then 5 at 10, with an evaluation between.
    lines = [
        {"step": 10, "train/loss": 1.0, "images_per_s": 4.0},
        {"step": 10, "val/mIoU": 0.5},
        {"step": 15, "train/loss": 1.0, "images_per_s": 10.0},
    ]
    seconds, images = trials.training_seconds(lines, 8)
    np.testing.assert_allclose(seconds, 80 / 4 + 40 / 10)
    assert images == 120
    assert trials.training_seconds([], 8) == (0.0, 0)


def test_a_run_resumes_at_its_newest_checkpoint(tmp_path):
    assert trials.resumes_at(tmp_path) == 0
    for name in ("5", "15", "20.orbax-checkpoint-tmp", "best"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert trials.resumes_at(tmp_path) == 15


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing"])
def test_the_place_of_a_study_is_checked_first(tmp_path, kind):
    trials.check_place(tmp_path / "none")
    trials.write_study(tmp_path, tmp_path / "page.py", {}, [])
    trials.check_place(tmp_path)
    file = tmp_path / "study.json"
    file.unlink()
    file.mkdir() if kind == "a folder" else file.symlink_to("/no/such/file")
    with pytest.raises(UserError, match=rf"^{file} is no regular file"):
        trials.check_place(tmp_path)
