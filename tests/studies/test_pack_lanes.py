"""Lanes in which trials of a pack take their steps: nothing that is computed depends on them."""

from pathlib import Path

import jax
import numpy as np
import pytest

from unet_jax.experiment import assemble, step_shapes
from unet_jax.process import runtime
from unet_jax.studies.pack import in_turn
from unet_jax.studies.pack.in_turn import InTurn
from unet_jax.studies.pack.step import Member
from unet_jax.studies.pages import make_config

PAGE = {
    "model.features": (8, 16),
    "model.dropout": (0.1, 0.3),
    "augment.zoom.scale": (0.8, 1.2),
    "mesh.data": 1,
}
TRIALS = [
    {},
    {"train.seed": 1, "model.dropout": (0.2, 0.1)},
    {"train.seed": 1, "optim.learning_rate": 1e-2},
]


@pytest.fixture(scope="module")
def members():
    found, shared = [], None
    for changes in TRIALS:
        config = make_config("tests/support/quick.py", PAGE | changes)
        experiment = assemble(config, None, shared)
        shared = shared or experiment
        found.append(Member(Path(), config, experiment))
    return found


def make_way(members, monkeypatch, cores) -> InTurn:
    monkeypatch.setattr(runtime, "cores", lambda: cores)
    return InTurn(members)


def take_steps(way: InTurn, members, count: int):
    """Takes steps from drawn parameters on noise; returns the states and the last scalars."""
    states = way.put([members[0].experiment.init(jax.random.key(row)) for row in range(3)])
    _, shapes, _ = step_shapes(members[0].experiment)
    inputs, scalars = way.inputs(), None
    for step in range(count):
        random = np.random.default_rng(step)
        batches = [
            {key: random.integers(0, 2, x.shape).astype(x.dtype) for key, x in shapes.items()}
            for _ in range(2)
        ]
        states, scalars = way(states, way.put_batches(batches), inputs)
    return list(way.fetch(states)), way.fetch_scalars(scalars)


def test_lanes_change_no_byte(members, monkeypatch):
    found = {}
    for cores in (1, 2, 16):
        way = make_way(members, monkeypatch, cores)
        lanes = min(cores, len(TRIALS))
        said = "one program, in turn" + (f", {lanes} at a time" if lanes > 1 else "")
        assert way.describe() == said
        found[cores] = [np.asarray(x) for x in jax.tree.leaves(take_steps(way, members, 3))]
    for cores in (2, 16):
        pairs = zip(found[1], found[cores], strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)
    assert all(np.all(np.isfinite(x)) for x in found[1])


def test_every_trial_has_its_own_numbers_in_its_own_row(members, monkeypatch):
    _, scalars = take_steps(make_way(members, monkeypatch, 2), members, 2)
    rates = [float(one["learning_rate"]) for one in scalars]
    assert rates[0] == rates[1] != rates[2]
    assert len({float(one["train/loss"]) for one in scalars}) == len(TRIALS)


@pytest.mark.parametrize(("states", "spaces", "lanes", "most"), [
    (3, 3, 3, 3), (3, 2, 2, 3), (3, 1, 1, 3), (3, 0, 1, 1), (1, 1, 1, 1), (9, 3, 3, 9),
])  # fmt: skip
def test_lanes_fit_beside_the_states(members, monkeypatch, states, spaces, lanes, most):
    """Memory for so many states, and workspaces beside them, and a little."""
    way = make_way(members, monkeypatch, 16)
    found = way._step.memory_analysis()
    one, work = found.argument_size_in_bytes, found.temp_size_in_bytes
    assert one < work
    memory = states * one + spaces * work + one // 2
    monkeypatch.setattr(in_turn, "device_memory", lambda: memory / in_turn.MEMORY_SHARE)
    assert len(way._lanes) == lanes
    assert way.most() == most
