"""What trials side by side take on one device, against sums of NumPy and by hand."""

import jax
import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.experiment import assemble
from unet_jax.plan import tpu
from unet_jax.plan.chips import TPUS, parse_topology
from unet_jax.plan.compiled import Compiled, Held, read_held
from unet_jax.plan.program import Program
from unet_jax.process import target
from unet_jax.process.console import console
from unet_jax.studies.pack import elsewhere
from unet_jax.studies.pack.side_by_side import SideBySide
from unet_jax.studies.pages import make_config

GIB, SIDE, BATCH = 2**30, 16, 4
PAGE = {"model.features": (4, 8), "train.batch_size": BATCH, "train.duration": "20 steps"}
V5E = TPUS["v5e"]


def size(tree):
    return sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree))


def test_arguments_are_so_many_states_and_one_batch():
    count, (_, second, *_) = 3, jax.devices()
    config = make_config("tests/support/quick.py", PAGE)
    with target.compiling_for([second]):
        now = assemble(config)
        way = SideBySide(elsewhere.make_trials(config, now, count))
        compiled = way.lower().compile()
        held = read_held(way.shapes(), compiled)
    assert way.describe() == "one program, 3 on each of 1 devices"
    assert all(
        where.device_set == {second} for where in jax.tree.leaves(compiled.input_shardings[0])
    )
    state = now.init(jax.random.key(0))
    batch = np.zeros((BATCH, SIDE, SIDE, 3 + 1 + 1), np.uint8).nbytes  # image, label and weight
    own = 2 * 4 + 4 + 4  # key, whose batch, and learning rate
    assert compiled.memory_analysis().argument_size_in_bytes == count * (size(state) + own) + batch
    parameters = count * size((state.params, state.batch_stats))
    optimizer = count * size((state.opt_state, state.average, state.step))
    assert held[:4] == (parameters, optimizer, batch, count * own)


def made(held, flops, moved, cycles):
    return Compiled(4, held, Program(flops, moved, {}, cycles), None, 1, 1.0)


def test_ratios_are_to_as_many_runs_alone():
    alone = made(Held(3 * GIB, 2 * GIB, GIB, 0, 3 * GIB, GIB), 197e9, 819 * 10**5, 5000)
    four = made(Held(12 * GIB, 8 * GIB, GIB, 3 * GIB, 10 * GIB, 2 * GIB), 1182e9, 10**9, 10_000)
    held = "24.00 GiB", "10.00 GiB", "2.00 GiB", "36.00 GiB", "9.00 GiB", "0.90"
    assert elsewhere.write_held(4, four, alone) == held
    does = "1,182.0", "1.50", "953.7 MiB", "3.05"
    assert elsewhere.write_work(4, four, alone) == does
    # A quarter of 6 ms and of 1.22 ms; alone 1 ms.
    takes = "1.5 ms", "0.305 ms", "1.5 ms", "1.50", "2", "0.50"
    assert elsewhere.write_times(4, four, alone, V5E) == takes


def test_what_is_refused_has_its_bytes_alone():
    alone = made(Held(3 * GIB, GIB, 0, 0, 0, 0), 1e9, 10**6, 5)
    refused = Compiled(4, None, None, 17 * GIB, None, 1.0)
    said = "", "", "refused", "17.00 GiB", "4.25 GiB", "1.06"
    assert elsewhere.write_held(4, refused, alone) == said
    assert not any(elsewhere.write_work(4, refused, alone))
    assert not any(elsewhere.write_times(4, refused, alone, V5E))


def test_how_many_fit_in_line():
    totals = {8: 20, 1: 9, 4: 12}  # two for each further one
    assert [elsewhere.most(totals, there) for there in (11, 12, 13, 14, 41)] == [3, 4, 4, 5, 18]


def test_what_is_only_estimated_is_refused():
    with pytest.raises(UserError, match="--topology=h100:1 is only estimated"):
        elsewhere.plan_packs(
            make_config("tests/support/quick.py", {}), parse_topology("h100:1"), [1]
        )


@pytest.mark.skipif(
    not tpu.is_installed(), reason="libtpu is not installed: pip install 'unet-jax[tpu]'"
)
def test_on_one_chip_of_four(monkeypatch, tmp_path):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path))
    config = make_config("tests/support/quick.py", PAGE)
    with console.capture() as capture:
        elsewhere.plan_packs(config, parse_topology("v5e:2x2"), [2])
    said = [line.split("│") for line in capture.get().splitlines()]
    assert "15.75 GiB of a TPU v5e" in capture.get()
    rows = [[cell.strip() for cell in line[1:-1]] for line in said if len(line) > 2]
    assert [row[0] for row in rows] == 3 * ["alone", "2 as one"]
    parts = zip(rows[:2], rows[2:4], rows[4:], strict=True)
    one, two = [(held[6], does[2], does[4], takes[4], takes[6]) for held, does, takes in parts]
    assert one == ("1.00",) * 5
    # Of so many trials as many convolutions; those of one alone are computed on a padded batch.
    assert 0.5 < float(two[1]) < 1.1
    assert all(float(ratio) > 0 for ratio in two)
