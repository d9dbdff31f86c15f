"""Short forms of `experiments.scale.deaths`: a run that died ends as if it had not."""

import contextlib
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.runs import TINY, assert_same_run, start, wait_for

from experiments.scale.moments import Moments, in_turn

OFTEN = "--config.train.checkpoint_every=5"


def test_a_process_dies_at_the_moment_of_a_file_that_was_asked_for(tmp_path, monkeypatch):
    run, log, killed = tmp_path / "run", tmp_path / "log", []
    moments = Moments(run, log, "before rename b 1")
    run.mkdir()
    monkeypatch.setattr(os, "kill", lambda *signal: killed.append(log.read_text()))
    make, rename = moments.watch_open(open), moments.watch("rename", os.rename, 1)
    for file in (run / "a", tmp_path / "elsewhere", run / f".{os.getpid()}.part"):
        make(file, "w").close()
    make(run / "a").close()
    rename(run / "a", run / "b")
    lines = log.read_text().splitlines()
    assert lines[:4] == [f"{x} 1" for x in CREATED]
    assert lines[4:] == ["before rename b 1", "after rename b 1"]
    assert [text.splitlines() for text in killed] == [lines[:5]]


CREATED = ("before create a", "after create a", "before create .X.part", "after create .X.part")


def test_every_kind_of_moment_comes_before_any_comes_twice():
    steps = [f"after rename checkpoints/{step} 1" for step in (5, 10, 15)]
    inside = [f"before delete checkpoints/deleted/5/{name} 1" for name in ("meta", "state/d/1")]
    moments = [*steps, *inside, "before delete .run.json.part 1", "before rename run.json 1"]
    found = in_turn(moments, random.Random(0))
    assert sorted(found) == sorted({*moments} - {"before delete .run.json.part 1"})
    assert len({moment.split("/")[-2:][0][:25] for moment in found[:3]}) == 3


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = command(TINY, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def go_on(command, workdir, undisturbed):
    done = command(TINY, OFTEN, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert_same_run(undisturbed, workdir)
    return done


@pytest.mark.slow
def test_killed_in_the_middle_of_a_save(undisturbed, tmp_path, command):
    folder = tmp_path / "checkpoints"
    process = start(tmp_path, OFTEN)
    wait_for(process, lambda: any(folder.glob("15.orbax-checkpoint-tmp*")))
    process.kill()
    process.communicate()
    go_on(command, tmp_path, undisturbed)
    assert not any(folder.glob("*tmp*")), "what was half written is cleaned up"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed when some checkpoints were complete."""
    workdir = tmp_path_factory.mktemp("runs") / "killed"
    process = start(workdir, OFTEN)
    wait_for(process, lambda: (workdir / "checkpoints" / "20").is_dir())
    process.kill()
    process.communicate()
    return workdir


@pytest.mark.parametrize("pattern", ["state/d/*", "sha256.json", "_CHECKPOINT_METADATA"])
def test_a_broken_newest_checkpoint_is_named_and_set_aside(
    undisturbed, killed, tmp_path, command, pattern
):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints"
    newest = max((f for f in folder.iterdir() if f.name.isdecimal()), key=lambda f: int(f.name))
    broken = max(newest.glob(pattern), key=lambda file: file.stat().st_size)
    os.truncate(broken, broken.stat().st_size // 2)
    done = go_on(command, tmp_path, undisturbed)
    assert f"{newest} is broken ({broken.relative_to(newest)}" in done.stdout
    assert int(re.search(r"resumes at +step (\d+)", done.stdout)[1]) < int(newest.name)
    assert (tmp_path / "broken_checkpoints" / newest.name / broken.relative_to(newest)).exists()


@pytest.fixture
def small_disk(tmp_path):
    line = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path)]
    if subprocess.run(line, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(4096))


def test_a_full_disk_ends_the_run_and_loses_nothing(undisturbed, small_disk, command):
    workdir = small_disk / "run"
    process = start(workdir, OFTEN)
    wait_for(process, lambda: (workdir / "checkpoints" / "5").is_dir())
    fill(small_disk / "filler")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert b"error: the disk is full" in error
    assert b"Free some space and start the same command again" in error
    (small_disk / "filler").unlink()
    go_on(command, workdir, undisturbed)
