"""A part of `python -m experiments.damage`: broken files end in one line, or change nothing."""

import inspect

from experiments.damage.__main__ import try_all
from experiments.damage.ask import answer_probe
from unet_jax.studies.sweep import probe

CASES = 12


def test_damaged_files_end_in_one_line_or_change_nothing(tmp_path, capsys):
    wrong = try_all(tmp_path, CASES, seed=1)
    said = capsys.readouterr().out
    assert f"{CASES} cases" in said
    assert not wrong, said


def test_what_stands_for_the_probe_takes_what_it_takes():
    stand_in, real = (list(inspect.signature(f).parameters) for f in (answer_probe, probe.ask))
    assert stand_in == real
