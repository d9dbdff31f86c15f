import contextlib
import os
import shutil
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.runs.checkpoint import Checkpoints, read_arrays
from unet_jax.runs.damage import find_damage, set_broken_aside
from unet_jax.sharding import make_shardings, replicate
from unet_jax.studies.trials import resumes_at


def state(step, devices=1):
    tree = {"w": jnp.arange(6.0).reshape(2, 3) * step, "count": jnp.asarray(step)}
    return replicate(tree, make_shardings(devices))


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, score in [(1, 0.1), (2, 0.5), (3, None), (4, 0.4), (5, None)]:
        checkpoints.save(step, state(step), {"scores": {"mIoU": score}}, score)
    checkpoints.close()
    return tmp_path / "checkpoints"


def test_the_two_latest_and_the_best_are_kept(saved):
    assert sorted(int(folder.name) for folder in saved.iterdir()) == [2, 4, 5]
    assert Checkpoints(saved).steps() == {"latest": 5, "best": 2}


def test_what_a_run_that_died_had_yet_to_delete_is_deleted(saved):
    kept = saved / "2"
    for step in (1, 3, 4):
        shutil.copytree(kept, saved / str(step), dirs_exist_ok=True)
        file = saved / str(step) / "metrics" / "metrics"
        file.write_text(file.read_text().replace("0.5", f"0.{step}"))
    with closing(Checkpoints(saved)) as checkpoints:
        assert sorted(checkpoints.all_steps()) == [1, 2, 3, 4, 5]
        checkpoints.delete_others()
        assert sorted(checkpoints.all_steps()) == [2, 4, 5]
    assert sorted(folder.name for folder in saved.iterdir()) == ["2", "4", "5"]


def test_nothing_saved(tmp_path):
    assert Checkpoints(tmp_path / "none").steps() == {}


def test_the_latest_is_best_while_nothing_was_evaluated(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step), {}, None)
    checkpoints.wait()
    assert checkpoints.steps() == {"latest": 2, "best": 2}
    checkpoints.close()


@pytest.mark.parametrize("devices", [1, 8])
def test_restores_state_and_meta_on_any_mesh(saved, devices):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore(2, state(0, devices))
    jax.tree.map(np.testing.assert_array_equal, restored, state(2))
    assert len(restored["w"].sharding.device_set) == devices
    assert checkpoints.meta(2) == {"scores": {"mIoU": 0.5}}


@pytest.mark.parametrize("other", ["missing", "added", "shape"])
def test_a_state_of_other_parts_is_one_line(saved, other):
    like = state(0)
    if other == "missing":
        del like["count"]
    elif other == "added":
        like["sums"] = like["w"]
    else:
        like["w"] = like["w"].T
    with pytest.raises(
        UserError, match=r"/2 holds other arrays than this version .*(count|sums|w) is "
    ):
        Checkpoints(saved).restore(2, like)


def test_a_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state(3), {}, 0.1)
    checkpoints.wait()
    checkpoints.save(3, state(7), {}, 0.9)
    checkpoints.wait()
    assert checkpoints.restore(3, state(0))["count"] == 3
    checkpoints.close()


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def largest(folder):
    return max(folder.rglob("d/*"), key=lambda file: file.stat().st_size)


DAMAGES = {
    "a flipped bit": lambda folder: flip_a_bit(largest(folder)),
    "a file that is cut short": lambda folder: os.truncate(largest(folder), 10),
    "a file that is missing": lambda folder: largest(folder).unlink(),
    "no checksums": lambda folder: (folder / "sha256.json").unlink(),
    "scores that are cut short": lambda folder: os.truncate(folder / "metrics" / "metrics", 5),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_named_and_set_aside(saved, damage):
    assert all(find_damage(folder) is None for folder in saved.iterdir())
    assert set_broken_aside(saved) == []
    DAMAGES[damage](saved / "5")
    (line,) = set_broken_aside(saved)
    aside = saved.parent / "broken_checkpoints" / "5"
    assert str(saved / "5") in line
    assert f"moved to {aside}" in line
    assert aside.is_dir()
    assert Checkpoints(saved).steps() == {"latest": 4, "best": 2}
    Checkpoints(saved).restore(4, state(0))


def test_a_death_while_an_old_checkpoint_is_deleted_breaks_none(saved, monkeypatch):
    def die(folder, *_, **__):
        for file in sorted(Path(folder).rglob("d/*")):
            file.unlink()
            raise OSError("killed")

    checkpoints = Checkpoints(saved)
    monkeypatch.setattr(shutil, "rmtree", die)
    with contextlib.suppress(OSError):
        checkpoints.save(6, state(6), {"scores": {}}, None)  # deletes 4
        checkpoints.wait()
    monkeypatch.undo()
    assert set_broken_aside(saved) == []
    assert {folder.name for folder in saved.iterdir()} == {"2", "5", "6", "deleted"}
    assert resumes_at(saved.parent) == 6
    with closing(Checkpoints(saved)) as checkpoints:
        assert sorted(checkpoints.all_steps()) == [2, 5, 6]
        assert {folder.name for folder in saved.iterdir()} == {"2", "5", "6"}


def test_what_was_not_planned_or_does_not_last_pushes_nothing_out(tmp_path):
    marks = {3: {"is_planned": False}, 5: {"is_lasting": False}}  # stopped; the end, not due
    with closing(Checkpoints(tmp_path)) as checkpoints:
        for step, score in [(1, 0.5), (2, 0.4), (3, None), (4, 0.4), (5, 0.9)]:
            checkpoints.save(step, state(step), {}, score, **marks.get(step, {}))
            if step == 3:
                checkpoints.wait()
                assert sorted(checkpoints.all_steps()) == [1, 2, 3]
        checkpoints.wait()
        assert sorted(checkpoints.all_steps()) == [1, 4, 5]
        assert checkpoints.steps() == {"latest": 5, "best": 5}


def test_what_was_set_aside_is_never_written_over(saved):
    for again in ("5", "5_2"):
        (saved / "5").mkdir(exist_ok=True)
        (saved / "5" / "note").write_text(again)
        (saved / "5" / "sha256.json").unlink(missing_ok=True)
        set_broken_aside(saved)
        assert (saved.parent / "broken_checkpoints" / again / "note").read_text() == again


def test_a_broken_checkpoint_is_not_restored(saved):
    flip_a_bit(largest(saved / "2"))
    with pytest.raises(UserError, match=r"2 is broken \(state/.* is not what was saved\)"):
        Checkpoints(saved, read_only=True).restore(2, state(0))


def test_reading_alone_leaves_a_save_under_way_as_it_is(saved):
    half = saved / "6.orbax-checkpoint-tmp"
    half.mkdir()
    with closing(Checkpoints(saved, read_only=True)):
        time.sleep(0.5)
    assert half.is_dir()
    with closing(Checkpoints(saved)):  # deletes it in a thread
        deadline = time.monotonic() + 30
        while half.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not half.exists()


def test_arrays_can_be_read_without_a_mesh(saved):
    found = read_arrays(saved / "4")
    assert set(found) == {"w", "count"}
    np.testing.assert_array_equal(found["w"], np.arange(6.0).reshape(2, 3) * 4)


CONTENTS = {
    "meta/metadata": ("", "{", "[1]", None),
    "metrics/metrics": ("", "{", '{"score": 99}', None),
    "sha256.json": ("", "[1]", "{}", "null", None),
    "_CHECKPOINT_METADATA": ("", "[1]", '{"item_handlers": 1}', None),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_read_first_of_a_checkpoint_is_checked_first(saved, name):
    file = saved / "5" / name
    before = file.read_bytes()
    for text in CONTENTS[name]:
        file.unlink()
        if text is not None:
            file.write_text(text)
        whole = r"whole are those of the steps 2, 4: move this folder elsewhere"
        with pytest.raises(UserError, match=rf"/5 is broken \({name} .*{whole}"):
            Checkpoints(saved, read_only=True)
        file.write_bytes(before)
    assert Checkpoints(saved, read_only=True).steps() == {"latest": 5, "best": 2}


@pytest.mark.parametrize("stray", ["999", "7"])
def test_what_is_no_checkpoint_of_ours(saved, stray):
    (saved / stray).mkdir() if stray == "999" else (saved / stray).write_text("a note")
    with pytest.raises(UserError, match=rf"/{stray} is broken .*steps 2, 4, 5: move this folder"):
        Checkpoints(saved, read_only=True)


def test_the_folder_of_a_step_alone_is_named_where_none_is_whole(saved):
    for folder in saved.iterdir():
        (folder / "sha256.json").unlink()
    with pytest.raises(UserError, match=r"/2 is broken .* and no other is whole; put its files"):
        Checkpoints(saved, read_only=True)


def test_meta_is_read_from_a_whole_checkpoint_alone(saved):
    checkpoints = Checkpoints(saved, read_only=True)
    (saved / "5" / "meta" / "metadata").write_text('{"scores": {"mIoU": 1.0}}')
    with pytest.raises(UserError, match=r"5 is broken \(meta/metadata is not what was saved\)"):
        checkpoints.meta(5)
