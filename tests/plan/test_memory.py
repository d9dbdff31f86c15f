"""The planner: bytes of the compiled train step, and the largest that fits."""

import json
import math
import runpy
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from support.paths import ROOT

from unet_jax.errors import UserError
from unet_jax.experiment import assemble, step_shapes
from unet_jax.plan import memory
from unet_jax.plan.memory import Measured, Memory
from unet_jax.process import capacity
from unet_jax.process.capacity import is_out_of_memory, parse_memory, search, write_bytes
from unet_jax.sharding import LEAST_SPLIT

MIB, GIB = 2**20, 2**30
ONCE = ("repeats", "decoder_repeats")  # of config.model: one convolution where the page has two


def tiny(**changes):
    """Returns the page tiny.py with values by key, "." written as "__"."""
    config = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()
    once = {f"model__{name}": (1,) for name in ONCE}
    with config.unlocked():
        for key, value in (once | changes).items():
            section, name = key.split("__")
            config[section][name] = value
    return config


def total_of(config):
    """Counts what a program holds by itself: its arguments, results and workspace."""
    e = assemble(config)
    shape = (config.train.batch_size, *config.data.image_size)
    batch = {"image": (*shape, 3), "label": shape, "weight": shape}
    batch = {key: jnp.zeros(n, jnp.uint8) for key, n in batch.items()}
    found = e.train_step.lower(e.state_shapes, batch, jax.random.key(0)).compile()
    found = found.memory_analysis()
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return kept + found.temp_size_in_bytes


def with_beside(program):
    """Adds what is estimated for each of eight devices of a process on CPU."""
    return program + 2 * MIB + round(0.08 * program)


@pytest.fixture(scope="module")
def measured():
    return memory.measure(tiny(mesh__data=1), "as configured")


def test_parts_are_those_of_the_state_and_sum_up_to_the_program(measured):
    state, need = measured.experiment.state_shapes, measured.memory
    sizes = {
        name: sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))
        for name, tree in vars(state).items()
    }
    assert need.parameters == sizes["params"] + sizes["batch_stats"]
    assert need.optimizer == sizes["opt_state"] + sizes["average"] + sizes["step"]
    assert need.optimizer > 3 * sizes["params"]  # two moments and the averages
    assert need.batch == 8 * 32 * 32 * 5
    assert need.total - need.beside == total_of(measured.config)
    assert need.total == with_beside(total_of(measured.config))
    assert need.activations > 8 * 32 * 32 * 4 * 4 * 2  # of the first level's two convolutions


def test_devices_share_the_batch(measured):
    need = memory.measure(tiny(), "eight devices").memory
    assert need.parameters == measured.memory.parameters
    assert need.batch == measured.memory.batch / 8
    assert need.activations < measured.memory.activations / 4


def test_fsdp_divides_the_state():
    found = memory.measure(
        tiny(mesh__fsdp=8, model__features=(16, 64), model__repeats=(2,)), "split"
    )
    state, need = found.experiment.state_shapes, found.memory

    def share(tree):  # every large array has an axis that 8 divides
        numbers = [math.prod(x.shape) for x in jax.tree.leaves(tree)]
        assert max(numbers) >= LEAST_SPLIT
        return sum(4 * n // (8 if n >= LEAST_SPLIT else 1) for n in numbers)

    assert need.parameters == share((state.params, state.batch_stats))
    assert need.optimizer == share((state.opt_state, state.average, state.step))
    assert need.batch == 32 * 32 * 5


@pytest.mark.slow
def test_remat_keeps_fewer_activations():
    def activations(remat):
        twice = {"model__repeats": (2,), "model__decoder_repeats": (2,)}
        config = tiny(mesh__data=1, model__features=(8, 8, 8), model__remat=remat, **twice)
        e = assemble(config)
        # On CPU, XLA otherwise merges what is computed again with what was computed first.
        kept = {"xla_disable_hlo_passes": "cse_barrier_expander"}
        step = e.train_step.lower(*step_shapes(e)).compile(compiler_options=kept)
        return memory.read_memory(e, step).activations

    assert activations((0, 1, 2)) < 0.8 * activations(())


@pytest.mark.slow
def test_the_largest_batch_fits_and_the_next_does_not(measured):
    limit = 2 * measured.memory.total + 1000
    found = memory.largest_batch(measured, limit)
    assert found.is_exact
    assert found.size > 8
    there, after = (
        with_beside(total_of(tiny(mesh__data=1, train__batch_size=size)))
        for size in (found.size, found.size + 1)
    )
    assert found.total == there <= limit < after


@pytest.mark.slow
def test_the_largest_image_fits_and_the_next_does_not(measured):
    limit = 2 * measured.memory.total + 1000
    found = memory.largest_image(measured, limit)
    assert found.is_exact
    assert found.size > 32
    there, after = (
        with_beside(total_of(tiny(mesh__data=1, data__image_size=(side, side))))
        for side in (found.size, found.size + measured.experiment.model.multiple())
    )
    assert found.total == there <= limit < after


def test_only_on_cpu_something_is_added(monkeypatch):
    assert capacity.beside_program(100 * MIB) == 10 * MIB
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    assert capacity.beside_program(100 * MIB) == 24 * MIB
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    assert capacity.beside_program(100 * MIB) == 0


def fake(monkeypatch, config, bytes_of):
    """Replaces compiling by a function of the config."""
    experiment = assemble(config)

    def measure(config, label):
        return Measured(config, experiment, Memory(10 * MIB, 30 * MIB, 0, bytes_of(config)))

    monkeypatch.setattr(memory, "measure", measure)
    return measure(config, "")


def test_sizes_that_the_mesh_does_not_divide_are_not_tried(monkeypatch):
    config = tiny(mesh__fsdp=2, mesh__data=2, mesh__space=2)
    now = fake(monkeypatch, config, lambda config: config.train.batch_size * MIB)
    assert memory.largest_batch(now, 55 * MIB) == (12, 52 * MIB, True)
    now = fake(monkeypatch, config, lambda config: 1024 * math.prod(config.data.image_size))
    assert memory.largest_image(now, 55 * MIB) == (120, 40 * MIB + 1024 * 120**2, True)


def test_valid_convolutions_take_sizes_of_their_own(monkeypatch):
    page = runpy.run_path(str(ROOT / "configs" / "shapes.py"))["get_config"]("paper")
    now = fake(monkeypatch, page, lambda config: 1024 * math.prod(config.data.image_size))
    found = memory.largest_image(now, 100 * MIB)
    sizes = [n for n in range(1, 400) if now.experiment.model.axis_path().output_size(n)]
    assert found.size == max(n for n in sizes if n**2 * 1024 <= 60 * MIB)
    assert found.is_exact


@pytest.mark.parametrize("limit", [50, 1_000, 1_234_567])
@pytest.mark.parametrize("bend", [0, 40])
def test_search_of_bytes_nearly_in_line(limit, bend):
    def total(index):
        asked.append(index)
        return 40 + 7 * index + round(bend * math.sqrt(index))

    asked = []
    index, found, is_exact = search(total, lambda index: index, limit, {0: 40, 3: total(3)})
    assert len(asked) <= 1 + capacity.COMPILES
    assert found == (total(index) if index else 0) <= limit
    if is_exact:
        assert total(index + 1) > limit
    assert is_exact or bend


def test_search_ends_after_a_number_of_compilations():
    asked = []

    def total(index):
        asked.append(index)
        return 10 + index**6

    index, found, is_exact = search(total, lambda index: index, 10**12, {0: 10, 1: 11})
    assert len(asked) == capacity.COMPILES
    assert (found, is_exact) == (total(index) if index else 0, False)
    assert index <= 99


def test_search_says_that_none_fits_and_survives_what_does_not_compile():
    assert search(lambda _: 100, lambda index: index, 50, {0: 10, 1: 100}) == (0, 0, True)
    total = {1: 20, 2: 30, 3: 40}.get
    assert search(total, lambda index: index, 55, {0: 10, 1: 20}) == (3, 40, True)

    def half(index):
        return index if index < 4000 else None

    index, found, is_exact = search(half, lambda index: index, 10**5, {0: 0, 1: 1})
    assert 0 < index == found < 4000
    assert not is_exact


@pytest.mark.parametrize(
    ("text", "count"),
    [("16GiB", 16 * GIB), ("24GB", 24 * 10**9), ("1.5 gib", 3 * GIB // 2), ("512KiB", 2**19)],
)
def test_amounts_of_memory(text, count):
    assert parse_memory("--memory", text) == count


@pytest.mark.parametrize("text", ["", "16", "GiB", "16 apples", "-1GiB", "0GiB", "16G", "1e3MB"])
def test_what_is_no_amount_of_memory_is_said(text):
    with pytest.raises(UserError) as error:
        parse_memory("--memory", text)
    for part in (f"--memory={text!r}", "above 0", "such as 16GiB or 24GB"):
        assert part in str(error.value)


def test_bytes_are_written_for_people():
    written = [write_bytes(n) for n in (16 * GIB, 3 * MIB // 2, 512, -3 * MIB)]
    assert written == ["16.00 GiB", "1.5 MiB", "0.5 KiB", "-3.0 MiB"]


def test_devices_of_a_cpu_share_the_memory_of_their_group(monkeypatch, tmp_path):
    alone = capacity.device_memory()
    assert 2**28 < alone < 2**50
    (tmp_path / "memory.max").write_text(f"{800 * MIB}\n")
    (tmp_path / "no_limit").write_text("max\n")
    files = tuple(tmp_path / name for name in ("memory.max", "no_limit", "absent"))
    monkeypatch.setattr(capacity, "_GROUP_LIMITS", files)
    assert capacity.device_memory() == 100 * MIB


def test_out_of_memory_is_recognised():
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.block_until_ready(jnp.zeros(2**46, jnp.uint8))
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: no memory of it"))
    assert not is_out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


def bytes_with_savings(config):
    count = config.train.batch_size * 100 * MIB
    return count // (2 if config.model.remat else 1) // (config.mesh.fsdp * config.mesh.space)


def test_advice_names_what_would_fit(monkeypatch):
    fake(monkeypatch, tiny(), bytes_with_savings)
    text = memory.advise(tiny(mesh__data=1), 500 * MIB)
    for part in (
        "needs 840.0 MiB per device, and there are 500.0 MiB",
        "config.model.remat=(0, 1) (440.0 MiB)",
        "config.mesh.data=-1, config.mesh.fsdp=8 (140.0 MiB)",
        "config.mesh.data=-1, config.mesh.space=8 (140.0 MiB)",
    ):
        assert part in text
    assert "bfloat16" not in text
    assert "\n" not in text
    fake(monkeypatch, tiny(mesh__data=1), bytes_with_savings)
    assert "config.train.batch_size=4 (440.0 MiB)" in memory.advise(tiny(mesh__data=1), 500 * MIB)


def test_advice_where_nothing_alone_fits_and_where_all_fits(monkeypatch):
    fake(monkeypatch, tiny(), lambda config: 10 * GIB)
    text = memory.advise(tiny(), 100 * MIB)
    for part in ("no single change", "config.data.image_size=(32, 32)", "config.model.features"):
        assert part in text
    text = memory.advise(tiny(), 20 * GIB)
    for part in ("something else", "config.train.batch_size=8", "config.eval.batch_size=8"):
        assert part in text


def test_one_device_is_said_to_be_too_few(monkeypatch, measured):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    changes = {change.label: change for change in memory.list_changes(measured)}
    assert "needs more devices" in changes["fsdp"].obstacle
    assert "needs more devices" in changes["space"].obstacle
    config = tiny(model__remat=(0, 1), model__dtype="bfloat16")
    changes = memory.list_changes(measured._replace(config=config))
    assert [change.obstacle for change in changes[:2]] == ["as configured"] * 2


@pytest.mark.slow
def test_the_command(tmp_path, command, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # with one device, forms are others
    measured = memory.measure(tiny(mesh__data=1), "as in a process of one device")
    given = ["--config=configs/tiny.py", *(f"--config.model.{k}=(1,)" for k in ONCE)]
    done = command("--mode=plan", *given, "--memory=24MiB", f"--workdir={tmp_path}/plan")
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert plan["memory"] == 24 * MIB
    alone = measured.memory._replace(beside=measured.memory.beside + 14 * MIB)  # not one of eight
    assert plan["bytes_per_device"] == alone._asdict() | {"total": alone.total}
    labels = [change["label"] for change in plan["changes"]]
    assert labels == ["remat on all levels", "bfloat16", "fsdp", "space"]
    assert [change["total"] is None for change in plan["changes"]] == [False, False, True, True]
    assert 0 < plan["largest_batch"]["total"] <= 24 * MIB
    assert 0 < plan["largest_image"]["total"] <= 24 * MIB
    words = ["parameters", "optimiser state", "activations", "total", "needs more devices"]
    words += [f"fits 24.0 MiB at 32x32 pixels: {plan['largest_batch']['size']} "]
    words += [f"at a batch of 8: {plan['largest_image']['size']} pixels"]
    for word in words:
        assert word in done.stdout
    assert not (tmp_path / "plan" / "config.json").exists()


def test_the_command_needs_no_directory_and_says_what_is_wrong(command):
    done = command("--mode=plan", "--config=configs/tiny.py", "--memory=much")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --memory='much' is no amount of memory")
    done = command("--mode=eval", "--config=configs/tiny.py")
    assert done.returncode == 2
    assert "Give the directory of the run: --workdir=" in done.stderr
