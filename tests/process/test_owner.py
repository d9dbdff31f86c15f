"""A folder has one owner at a time, whom others learn of; what several write is never lost."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from support import processes
from support.paths import ROOT

from configs.tiny import get_config
from unet_jax.errors import UserError
from unet_jax.process import multihost, owner
from unet_jax.runs import layout, ours
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.results import read_results, says_finished, write_results
from unet_jax.studies import trials
from unet_jax.studies.pack.train import train_packed
from unet_jax.training import train_and_evaluate

HOLD = """
import sys
from pathlib import Path
from unet_jax.process import owner

with owner.owned(Path(sys.argv[1]), "a training"):
    print("in", flush=True)
    sys.stdin.read()
"""
ASK = """
import sys
from unet_jax import command_line, main

code = command_line.run(sys.argv, main.run, main)
print(code, "jax" in sys.modules)
"""


def hold(folder):
    line = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, cwd=ROOT, **pipes)
    assert process.stdout.readline() == "in\n"
    return process


def contents(folder):
    return {file: file.is_file() and file.read_bytes() for file in sorted(folder.rglob("*"))}


def test_who_comes_second_learns_who_owns_the_folder_until_that_one_is_dead(tmp_path):
    folder = tmp_path / "a" / "run"
    process = hold(folder)
    try:
        begin = time.monotonic()
        with pytest.raises(UserError) as error, owner.owned(folder, "a sweep"):
            pass
        assert time.monotonic() - begin < 2 * owner.PATIENCE + 1
        today = time.strftime("%Y-%m-%d")
        text = f"--workdir={folder} is in use by a training: process {process.pid} on "
        assert str(error.value).startswith(f"{text}{socket.gethostname()}, since {today} ")
        assert "`python -c" in str(error.value).replace("python3 ", "python ")
        assert str(error.value).endswith("stop it, or choose another directory.")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with owner.owned(folder, "a sweep"):
        assert f"a sweep: process {os.getpid()} on " in (folder / owner.LOCK).read_text()
    assert not list(folder.iterdir()), "the lock is gone with its owner"


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    with owner.owned(tmp_path / "a" / "b", "a training"):
        pass
    assert not list(tmp_path.iterdir())
    with owner.owned(tmp_path / "a" / "b", "a training"):
        (tmp_path / "a" / "b" / "config.json").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["config.json"]


def test_what_cannot_be_owned_says_why(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / owner.LOCK).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    odd = tmp_path / ("n" * 300), tmp_path / "a\0", tmp_path / "link"
    for folder in (tmp_path / "file" / "x", tmp_path / "file", tmp_path, *odd):
        with (
            pytest.raises(UserError, match=r"--workdir=.* cannot be written: .*choose another"),
            owner.owned(folder, "a training"),
        ):
            pass


def test_what_cannot_be_written_needs_no_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with owner.owned(tmp_path, "a training"), owner.owned(tmp_path, "a training"):
        assert not list(tmp_path.iterdir())


def test_a_lock_file_of_another_program_is_kept(tmp_path):
    (tmp_path / owner.LOCK).write_text("theirs")
    with (
        owner.owned(tmp_path, "a training"),
        pytest.raises(UserError, match="another process"),
        owner.owned(tmp_path, "a sweep"),
    ):
        pass
    assert (tmp_path / owner.LOCK).read_text() == "theirs"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_and_says_so(tmp_path, monkeypatch, capsys, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with owner.owned(tmp_path, "a training"):
        pass
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path} has no locks ({os.strerror(code)})")


@pytest.mark.parametrize("flag", [(), ("--overwrite",)])
def test_a_second_training_ends_before_jax_is_imported(tmp_path, flag):
    run_dir.begin(tmp_path, get_config(), overwrite=False)
    with owner.owned(tmp_path, owner.TRAINING):
        before = contents(tmp_path)
        page = f"--config={ROOT / 'configs' / 'tiny.py'}"
        line = [sys.executable, "-c", ASK, f"--workdir={tmp_path}", page, *flag]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
        assert contents(tmp_path) == before
    assert done.stdout == "2 False\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: --workdir={tmp_path} is in use by a training: process ")


def test_all_processes_of_a_second_training_end(tmp_path):
    with owner.owned(tmp_path, owner.TRAINING):
        flags = [f"--config={ROOT / 'configs' / 'tiny.py'}", "--overwrite"]
        ended = processes.finish(processes.start(tmp_path, 2, flags))
        assert [path.name for path in tmp_path.iterdir()] == [owner.LOCK]
    for code, _, text in ended:
        (line,) = [line for line in text.splitlines() if line.startswith("error")]
        assert code == 2
        assert f"is in use by a training: process {os.getpid()} on " in line
        assert "Traceback" not in text


def test_processes_that_are_not_the_first_end_with_it(tmp_path, monkeypatch):
    told = np.zeros(multihost._LONGEST, np.uint8)
    told[:4] = list(b"used")
    monkeypatch.setattr(multihost.jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost.jax, "process_index", lambda: 1)
    monkeypatch.setattr(multihost.multihost_utils, "broadcast_one_to_all", lambda _: told)
    with pytest.raises(UserError, match=r"^used$"), multihost.owned(tmp_path / "run", "a training"):
        pass
    told[:] = 0
    with multihost.owned(tmp_path / "run", "a training"):
        assert not (tmp_path / "run").exists(), "the first one owns it"


def test_callers_in_process_own_their_folders_too(tmp_path):
    with owner.owned(tmp_path / "b", owner.TRAINING):
        with pytest.raises(UserError, match="in use by a training"):
            train_and_evaluate(get_config(), tmp_path / "b")
        with pytest.raises(UserError, match="in use by a training"):
            train_packed(dict.fromkeys((tmp_path / "a", tmp_path / "b"), get_config()), {})
        assert {path.name for path in tmp_path.rglob("*")} == {"b", owner.LOCK}


def test_scores_that_several_write_at_once_are_all_kept(tmp_path):
    failures = []

    def write(number):
        try:
            for count in range(20):
                write_results(tmp_path, **{f"{number}_{count}": {"step": count}})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(read_results(tmp_path)) == 80
    assert [path.name for path in tmp_path.iterdir()] == [layout.RESULTS]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [*ours.FILES, *ours.FOLDERS])
def test_what_is_not_of_a_run_is_named_and_kept(tmp_path, name, overwrite):
    (tmp_path / "log.txt").write_text("mine")
    if name in ours.FOLDERS:
        (tmp_path / name / "7").mkdir(parents=True)
        (tmp_path / name / "7" / "weights").write_text("mine")
    else:
        (tmp_path / name).write_text('{"data": {}, "model": "theirs"}')
    before = contents(tmp_path)
    with pytest.raises(UserError) as error:
        train_and_evaluate(get_config(), tmp_path, overwrite=overwrite)
    assert str(error.value).startswith(f"{tmp_path / name} is ")
    assert contents(tmp_path) == before


def test_a_sweep_begins_no_trial_over_what_is_not_of_a_run(tmp_path):
    (tmp_path / "config.json").write_text('{"theirs": 1}')
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"config\.json is not a config that a run wrote"):
        trials.prepare(tmp_path, trials.Trial("a", {}, {}), get_config())
    assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [layout.RESULTS, layout.CHECKPOINTS])
def test_a_folder_for_a_file_and_a_file_for_a_folder_are_named(tmp_path, name, overwrite):
    run_dir.begin(tmp_path, get_config(), overwrite=False, split="{}")
    if name in ours.FOLDERS:
        (tmp_path / name).touch()
    else:
        (tmp_path / name / "mine").mkdir(parents=True)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"{name} is a (file|folder), where a run writes a f"):
        train_and_evaluate(get_config(), tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == before


WRITTEN = (
    "checkpoints/20/sha256.json",
    "checkpoints/20/state/d/1",
    "checkpoints/30.orbax-checkpoint-tmp/state/d",
    "figures/predictions_00000020.png",
    "figures/confusion_test_latest_00000020.png",
    "figures/errors_00000020.png",
    "figures/worst_val_00000020.png",
    "figures/curves_test_00000020.png",
    "figures/sizes_val_latest_00000020.png",
    "figures/predictions_over_time.png",
    "figures/learning_curves.png",
    "figures/history/00000020.npz",
    "figures/history/.unet_jax_0123456789abcdef.tmp",
    "evaluations/val_00000020.npz",
    "evaluations/train_split_latest_00000040.npz",
    "tensorboard/events.out.tfevents.1.host",
    ".evaluation_abcdefgh/predictions_val.png",
    ".unet_jax_0123456789abcdef.tmp",
    "metrics.jsonl",
    "run.json",
    "results.json",
)
FOREIGN = (
    "checkpoints/notes.txt",
    "checkpoints/7/weights",
    "figures/mine.png",
    "figures/predictions_mine.png",
    "figures/history/mine.npz",
    "evaluations/mine.npz",
    "log.txt",
    "trial.json",
    "broken_checkpoints/10/sha256.json",
)


def make_run(folder, names):
    folder.mkdir(exist_ok=True)
    run_dir.begin(folder, get_config(), overwrite=False, split="{}")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    scores = dict.fromkeys(("pixel_accuracy", "mIoU", "mDice", "mean_class_accuracy"), 0.5)
    results = {"train": {"step": 40, "best_step": 20}, "val": {"step": 20, **scores}}
    (folder / layout.RESULTS).write_text(json.dumps(results))
    (folder / layout.REPORT).write_text(f'<meta name="generator" content="{layout.REPORT_BY}">')


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_a_run_wrote_is_replaced(tmp_path):
    make_run(tmp_path, WRITTEN + FOREIGN)
    run_dir.begin(tmp_path, get_config(), overwrite=True, split="{}")
    assert files(tmp_path) == {*FOREIGN, "config.json", "split.json"}
    assert not (tmp_path / "tensorboard").exists(), "it is empty"


class Death(BaseException):
    """Ends a process at once."""


def test_a_death_while_a_run_is_replaced_leaves_a_run_that_is_not_finished(tmp_path, monkeypatch):
    """Whenever it comes, all can be replaced afterwards."""
    died = []
    for moment in range(60):
        folder, left = tmp_path / str(moment), [moment]
        make_run(folder, WRITTEN + FOREIGN)

        def maybe(function, left=left):
            def do(*args, **kwargs):
                if "sha256" not in str(args[0]) and left[0] == 0:
                    raise Death
                left[0] -= 1
                return function(*args, **kwargs)

            return do

        with monkeypatch.context() as patch:
            for name in ("unlink", "replace", "rmdir"):
                patch.setattr(type(tmp_path), name, maybe(getattr(type(tmp_path), name)))
            try:
                run_dir.begin(folder, get_config(), overwrite=True, split="{}")
            except Death:
                died.append(moment)
        ours.check_names(folder)
        assert not says_finished(read_results(folder)) or moment == 0
        ours.check_names(folder, overwrite=True)
        run_dir.begin(folder, get_config(), overwrite=True, split="{}")
        assert files(folder) == {*FOREIGN, "config.json", "split.json"}
    assert died == list(range(len(died)))
    assert 10 < len(died) < 60, "from the first change to the last"


def test_a_run_whose_config_is_lost_is_known_by_its_run_json(tmp_path):
    make_run(tmp_path, WRITTEN)
    keys = ("command", "overrides", "git_commit", "versions", "devices")
    (tmp_path / layout.RUN).write_text(json.dumps(dict.fromkeys(keys)))
    (tmp_path / layout.CONFIG).unlink()
    with pytest.raises(UserError, match=r"run\.json is there, but no config\.json"):
        ours.check_names(tmp_path)
    ours.check_names(tmp_path, overwrite=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    config = get_config()
    config.train.duration, config.eval.shown, config.mesh.data = "1 step", 1, 1
    config.data.synthetic.update(train=8, val=2, test=2)
    train_and_evaluate(config, run)
    return config, run


def test_evaluations_need_no_owner_and_all_that_runs_write_is_known(trained):
    from unet_jax.evaluate import evaluate_run

    config, run = trained
    with owner.owned(run, owner.TRAINING):
        evaluate_run(config, run, split="test", checkpoint="latest")
    assert {"val", "train", "test_latest"} == set(read_results(run))
    ours.delete(run)
    assert [path.name for path in run.iterdir()] == [layout.CONFIG]
