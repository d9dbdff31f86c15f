"""Files of a run that are not what was written: one line that names them, and their line."""

import json
import shutil

import numpy as np
import pytest
from support import report_data

from configs import tiny
from unet_jax.compare import identity, other_identity
from unet_jax.config import load, to_json
from unet_jax.errors import BrokenFileError
from unet_jax.report import material, read
from unet_jax.report.pooled import pool
from unet_jax.runs import intact, splits
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.logs import Logs, read_lines
from unet_jax.runs.provenance import other_machine
from unet_jax.runs.results import read_results
from unet_jax.runs.trackers.make import Trackers
from unet_jax.studies import trials
from unet_jax.studies.study import Trial
from unet_jax.studies.sweep.jobs import plan_jobs
from unet_jax.studies.sweep.launcher import find_broken

DEEP = "[" * 100_000
GOOD = {"step": 4, "pixel_accuracy": 0.5, "mIoU": 0.5, "mDice": 0.5, "mean_class_accuracy": None}
BROKEN = ["", "{", "\xff", "[1]", "null", DEEP, '{"train": 1}', '{"val": {"step": "4"}}']


def put(file, text):
    """Writes a text, of bytes that may be none; a folder for None, a link to nothing for ...."""
    if text is None:
        file.mkdir()
    elif text is ...:
        file.symlink_to("/no/such/file")
    else:
        file.write_bytes(text.encode("latin-1"))
    return file


def finished(val, train=None):
    return json.dumps({"val": val, "train": train or {"step": 4, "best_step": 4}})


@pytest.mark.parametrize(
    "text",
    [
        *(None, ..., *BROKEN),
        '{"train": {"step": 4, "best_step": 4}}',
        finished({"step": 4}),
        finished(GOOD | {"mIoU": "0.5"}),
        finished(GOOD | {"IoU/cat": 0.5}),
        finished(GOOD, {"step": -1, "best_step": True}),
        finished(GOOD | {"mIoU": 10**400}),
    ],
)
def test_broken_results(tmp_path, text):
    file = put(tmp_path / "results.json", text)
    with pytest.raises(BrokenFileError, match=rf"^{file} is .*; put it back, or delete it"):
        run_dir.is_finished(tmp_path)


def test_results_of_all_versions_are_read(tmp_path):
    assert read_results(tmp_path) == {}
    for text in ('{"test": {"step": 2, "mIoU": NaN}}', finished(GOOD), '{"train": {"step": 3}}'):
        (tmp_path / "results.json").write_text(text)
        assert json.dumps(read_results(tmp_path)) == json.dumps(json.loads(text))


@pytest.mark.parametrize("text", [None, ..., *BROKEN[:6], '{"devices": 1}', '{"resumed": {}}'])
def test_broken_facts_of_a_run(tmp_path, text):
    file = put(tmp_path / "run.json", text)
    with pytest.raises(BrokenFileError, match=rf"^{file} is "):
        other_machine(tmp_path, {"platform": "cpu"}, "")


@pytest.mark.parametrize("text", [None, ..., *BROKEN[:6], '{"data": null}', '{"a": {"b.c": 1}}'])
def test_broken_configs(tmp_path, text):
    file = put(tmp_path / "config.json", text)
    with pytest.raises(BrokenFileError, match=rf"^{file} is .*; put it back, or train again"):
        run_dir.check_config(tmp_path, tiny.get_config(), "")


@pytest.mark.parametrize("text", [None, ..., *BROKEN, '{"train": {"a": null}, "val": {}}'])
def test_broken_splits(tmp_path, text):
    file = put(tmp_path / "split.json", text)
    with pytest.raises(BrokenFileError, match=rf"^{file} is .*; put it back"):
        splits.read(tmp_path)


@pytest.mark.parametrize(
    "line", ["", "junk", "\xff\x00", "null", "[1]", DEEP, "{}", '{"step": null}', '{"step": 1.5}']
)
def test_a_broken_line_of_metrics_is_named_and_nothing_is_lost(tmp_path, line):
    file = put(tmp_path / "metrics.jsonl", f'{{"step": 1, "a": NaN}}\n{line}\n{{"step": 3}}\n{{')
    with pytest.raises(BrokenFileError, match=rf"^{file}.*(, line 2 is|no text)"):
        read_lines(file)
    before = file.read_bytes()
    with pytest.raises(BrokenFileError, match=r"take that line out$|take that line out\.$"):
        Logs(file, Trackers((), tmp_path, {}, 3), 3, 4, shows=False)
    assert file.read_bytes() == before
    assert trials.last_line(tmp_path) == {"step": 3}


def test_the_progress_of_a_sweep_passes_over_broken_lines(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 7}\nnull\njunk\n{}\n{"st')
    assert trials.last_line(tmp_path) == {"step": 7}
    shutil.rmtree(tmp_path)
    (tmp_path / "metrics.jsonl").mkdir(parents=True)
    assert trials.last_line(tmp_path) == {"step": 0}


@pytest.mark.parametrize("text", [None, ..., *BROKEN, '{"name": "a", "factors": {}}'])
@pytest.mark.parametrize("name", ["trial.json", "study.json", "packs/1/pack.json"])
def test_broken_files_of_a_sweep(tmp_path, name, text):
    (tmp_path / "packs" / "1").mkdir(parents=True)
    if name == "packs/1/pack.json" and text == "[1]":
        text = "[1, 2]"
    file = put(tmp_path / name, text)
    with pytest.raises(BrokenFileError, match=rf"^{file} is "):
        {
            "trial.json": lambda: trials.read_trial(tmp_path),
            "study.json": lambda: trials.read_study(tmp_path),
            "packs/1/pack.json": lambda: plan_jobs({}, tmp_path, "packed"),
        }[name]()


def test_files_of_a_newer_version_of_a_sweep_are_read(tmp_path):
    trial = {"name": "a", "factors": {"seed": "0"}, "overrides": {}}
    (tmp_path / "trial.json").write_text(json.dumps(trial | {"newer": 1}))
    assert trials.read_trial(tmp_path) == Trial(**trial)


@pytest.mark.parametrize("name", ["evaluations", "figures", "tensorboard", "checkpoints"])
def test_what_is_in_the_place_of_a_folder(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(BrokenFileError, match=rf"^{tmp_path / name} is a file, where .* a folder"):
        intact.check_intact(tmp_path)


@pytest.mark.parametrize("name", ["evaluations/val_00000004.npz", "figures/a.png"])
def test_a_folder_in_the_place_of_a_file(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(BrokenFileError, match=rf"^{tmp_path / name} is a folder, where"):
        intact.check_intact(tmp_path)
    (tmp_path / name).rmdir()
    (tmp_path / name).symlink_to("/no/such/file")
    with pytest.raises(BrokenFileError, match=rf"^{tmp_path / name} is a link to nothing, where"):
        intact.check_intact(tmp_path)


@pytest.fixture
def study(tmp_path):
    """A study of two finished trials."""
    report_data.write_study(tmp_path / "study", {"lr": ("1", "2")}, {}, seeds=1, images=30)
    return tmp_path / "study"


def trials_of(study):
    return sorted(file.parent for file in study.glob("*/trial.json"))


def test_scores_that_the_counts_do_not_give(study):
    run, other = trials_of(study)
    intact.check_intact(run)
    results = json.loads((run / "results.json").read_text())
    results["val"]["IoU/road"] += 0.001
    for text in ((other / "results.json").read_text(), json.dumps(results)):
        (run / "results.json").write_text(text)
        with pytest.raises(BrokenFileError, match=r"results\.json has val\..*val_00000080\.npz"):
            intact.check_intact(run)
        intact.check_intact(run, "val")  # which is written anew


@pytest.mark.parametrize("text", ["junk", "", None])
def test_broken_counts_are_told_in_the_report(study, text):
    run, _ = trials_of(study)
    file = run / "evaluations" / "val_00000080.npz"
    file.unlink()
    put(file, text)
    found = material.gather([study], "val", {}, 100)
    assert any(f"{file} is not what a run wrote" in note for note in found.pooled.notes)
    assert len(pool(found.variants, "val", found.headline, 100).by_image) == 1


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 3), (0, 3, 3)])
def test_counts_of_other_shapes(tmp_path, shape):
    np.savez(tmp_path / "a.npz", confusion=np.zeros(shape, int), id=np.arange(3))
    with pytest.raises(ValueError, match="shape"):
        intact.read_counts(tmp_path / "a.npz")


def test_pickles_and_plain_arrays_are_no_counts(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "b.npz", confusion=np.array([{}], object), id=np.arange(1))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(ValueError, match="it "):
            intact.read_arrays(tmp_path / name, {"confusion": (None,), "id": (None,)})


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "config.json", "trial.json"])
def test_a_report_and_a_sweep_name_a_broken_trial_and_go_on(study, name, capsys):
    broken, other = trials_of(study)
    (broken / name).write_text("[1]\n")
    found = read.read(study)
    assert [run.folder for run in found.runs] == [other]
    assert f"{broken / name}" in found.broken[0]
    assert f"left out of the report: {broken.name}: {broken / name}" in capsys.readouterr().err
    of_sweep = find_broken(study, [Trial(run.name, {}, {}) for run in (broken, other)])
    assert list(of_sweep) == [broken.name]
    assert str(broken / name) in of_sweep[broken.name]
    (other / name).write_text("[1]\n")
    with pytest.raises(BrokenFileError, match=r"every trial has a broken file"):
        material.gather([study], "val", {}, 100)


def test_a_report_does_without_a_broken_run_json_and_says_so(study, capsys):
    run, _ = trials_of(study)
    (run / "run.json").write_text("[1]\n")
    assert [found.facts for found in read.read(study).runs if found.folder == run] == [{}]
    assert f"without its cost: {run.name}: {run / 'run.json'} is not" in capsys.readouterr().err


def test_an_ordinary_run_with_a_broken_file_is_one_line(study):
    run, _ = trials_of(study)
    (run / "trial.json").unlink()
    (run / "metrics.jsonl").write_text("junk\n")
    with pytest.raises(BrokenFileError, match=r"metrics\.jsonl, line 1 is not what a run wrote"):
        read.read(run)


def test_a_checkpoint_is_told_from_that_of_another_run(tmp_path):
    config = tiny.get_config()
    meta = json.loads(json.dumps({"config": identity(config)}))
    config.train.duration, config.data.path, config.mesh.data = "80 steps", "elsewhere", 1
    assert other_identity(meta["config"], config) == []
    intact.check_of_run({}, config, "of an older version")
    config.data.synthetic.seed = 7
    with pytest.raises(BrokenFileError, match=r"config\.data\.synthetic\.seed: 0 -> 7"):
        intact.check_of_run(meta, config, "checkpoints/4")
    del meta["config"]["data.synthetic.seed"]
    config.data.synthetic.seed = 0
    assert other_identity(meta["config"], config) == [], "an older version had no such key"
    assert load(put(tmp_path / "c.json", to_json(config))).to_dict() == config.to_dict()
