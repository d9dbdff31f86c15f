"""A sweep whose trials are packed into one program, through a death."""

import random
import re
import time

import pytest
from support.sweeps import assert_same, run, start, wait_for, write_page

from unet_jax.runs.workdir import is_finished
from unet_jax.studies.trials import read_study

DESIGN = "grid(values('optim.learning_rate', 1e-3, 3e-3), seeds(2))"


@pytest.mark.slow
def test_a_packed_sweep_that_was_killed_ends_as_if_undisturbed(tmp_path):
    page = write_page(tmp_path / "page.py", DESIGN)
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "study"
    code, out, error = run(page, undisturbed, "--dry_run", "--pack")
    assert code == 0, error
    assert "jobs: 1 packed, 0 of one trial each" in out
    assert not undisturbed.exists()
    code, _, error = run(page, undisturbed, "--pack")
    assert code == 0, error
    names = read_study(undisturbed).trials
    assert len(names) == 4
    (log,) = undisturbed.glob("packs/*/log.txt")
    assert "4 through one program" in log.read_text()
    with start(page, folder, "--pack") as process:
        saved = [folder / name / "checkpoints" / "3" for name in names]
        wait_for(process, lambda: all(path.exists() for path in saved))
        time.sleep(random.Random(time.time_ns()).random() * 0.3)
        process.kill()
        process.communicate()
    time.sleep(0.5)  # until the kernel has ended the pack
    assert not all(is_finished(folder / name) for name in names)
    code, _, error = run(page, folder)  # as the pack that it was
    assert code == 0, error
    assert [p.name for p in folder.glob("packs/*")] == [p.name for p in undisturbed.glob("packs/*")]
    for name in names:
        assert_same(folder / name, undisturbed / name)
    log = next(folder.glob("packs/*/log.txt")).read_text()
    assert re.search(r"resumes at +step \d", log)
