"""Which trials run in one process, also after some have begun."""

import json
import runpy

from support.paths import ROOT

from unet_jax.studies.sweep.jobs import find_log, plan_jobs, write_packs


def configs_of(count, **features):
    configs = {}
    for index in range(count):
        config = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()
        config.train.seed = index
        configs[f"a{index}"] = config
    for name, channels in features.items():
        config = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()
        config.model.features = channels
        configs[name] = config
    return configs


def members(jobs):
    return [sorted(run.name for run in job.trials) for job in jobs]


def test_trials_of_one_program_are_packed_and_the_rest_is_alone(tmp_path):
    configs = configs_of(3, wide=(4, 16))
    jobs = plan_jobs(configs, tmp_path, "packed")
    assert members(jobs) == [["a0", "a1", "a2"], ["wide"]]
    assert "unet_jax.studies.pack" in jobs[0].command
    assert jobs[0].command[-1] == f"--trial={tmp_path / 'a2'}"
    assert jobs[1].command[1:] == ("-m", "unet_jax.main", f"--workdir={tmp_path / 'wide'}")
    assert members(plan_jobs(configs, tmp_path, "single")) == [["a0"], ["a1"], ["a2"], ["wide"]]
    assert list(tmp_path.iterdir()) == []


def test_sixteen_trials_are_a_pack_and_seventeen_are_two(tmp_path):
    assert [len(run) for run in members(plan_jobs(configs_of(16), tmp_path, "packed"))] == [16]
    assert [len(run) for run in members(plan_jobs(configs_of(17), tmp_path, "packed"))] == [8, 9]


def test_a_pack_goes_on_as_it_began(tmp_path):
    begun = plan_jobs(configs_of(3), tmp_path, "packed")
    write_packs(begun)
    more = configs_of(5)
    jobs = plan_jobs(more, tmp_path, "packed")
    assert members(jobs) == [["a0", "a1", "a2"], ["a3", "a4"]]
    assert jobs[0] == begun[0]
    del more["a1"]  # finished
    jobs = plan_jobs(more, tmp_path, "single")
    assert members(jobs) == [["a0", "a2"], ["a3"], ["a4"]]
    assert (jobs[0].name, jobs[0].log) == (begun[0].name, begun[0].log)
    write_packs(jobs)
    saved = json.loads((begun[0].log.parent / "pack.json").read_text())
    assert saved == ["a0", "a1", "a2"], "it keeps its members"
    assert find_log(tmp_path / "a1") == begun[0].log
    assert find_log(tmp_path / "a3") == tmp_path / "a3" / "log.txt"
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / "log.txt").touch()
    assert find_log(tmp_path / "a1") == tmp_path / "a1" / "log.txt"


def test_a_trial_that_began_alone_goes_on_alone(tmp_path):
    (tmp_path / "a1" / "checkpoints" / "20").mkdir(parents=True)
    assert members(plan_jobs(configs_of(3), tmp_path, "packed")) == [["a0", "a2"], ["a1"]]
