"""What a compiled program does, read off its text: by hand, and off programs of eight devices."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unet_jax.plan.chips import TPUS
from unet_jax.plan.program import Collective, Program, _shape, read_program, read_text

# Shapes of a program for TPUs: T is how an array is laid out in tiles, S(1) is memory on the chip.
TEXT = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[5]{0:T(128)})->f32[5]}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%begin (p: bf16[3,2]) -> (bf16[3,2], bf16[3,16], u32[]) {
  %p = bf16[3,2]{1,0:T(8,128)(2,1)} parameter(0), backend_config={"estimated_cycles":"7"}
  %gathered.1 = bf16[3,16]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={1}
  ROOT %c = (bf16[3,2]{1,0:T(8,128)(2,1)S(1)}, bf16[3,16]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) custom-call(%gathered.1), custom_call_target="AsyncCollectiveStart"
}

%go_on (p: bf16[3,2]) -> bf16[3,16] {
  %p.1 = bf16[3,2]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %gathered.2 = bf16[3,16]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={1}
}

%inner (z: f32[5]) -> f32[5] {
  %z = f32[5]{0:T(128)} parameter(0)
  ROOT %less.1 = f32[5]{0:T(128)} negate(%z)
}

%body (t: (f32[5])) -> (f32[5]) {
  %t = (f32[5]{0:T(128)}) parameter(0)
  %item = f32[5]{0:T(128)} get-tuple-element(%t), index=0
  %twice = f32[5]{0:T(128)} multiply(%item, %item)
  %deep = f32[5]{0:T(128)} call(%twice), to_apply=%inner, backend_config={"estimated_cycles":"40"}
  ROOT %t.1 = (f32[5]{0:T(128)}) tuple(%deep)
}

%go (t: (f32[5])) -> pred[] {
  %t.2 = (f32[5]{0:T(128)}) parameter(0)
  ROOT %no = pred[]{:T(1024)S(1)} constant(false)
}

ENTRY %main (a: f32[5], w: bf16[3,2], i: f32[6,1024]) -> f32[5] {
  %a = f32[5]{0:T(128)} parameter(0)
  %w = bf16[3,2]{1,0:T(8,128)(2,1)} parameter(1)
  %i = f32[6,1024]{1,0:T(8,128)} parameter(2)
  %part = ((f32[6,1024]{1,0:T(8,128)}), f32[2,1024]{1,0:T(2,128)S(1)}, s32[]{:S(2)}) slice-start(%i), slice={[0:2], [0:1024]}
  %in = f32[2,1024]{1,0:T(2,128)S(1)} slice-done(%part)
  %kept = (f32[5]{0:T(128)S(1)}, f32[5]{0:T(128)}, u32[]{:S(2)}) copy-start(%a)
  %here = f32[5]{0:T(128)S(1)} copy-done(%kept)
  %f = (bf16[3,2]{1,0:T(8,128)(2,1)S(1)}, bf16[3,16]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) fusion(%w), kind=kCustom, calls=%begin
  %g = bf16[3,16]{1,0:T(8,128)(2,1)S(1)} fusion(%f), kind=kCustom, calls=%go_on, metadata={op_name="jit(step)/up (2)"}, backend_config={"window_config":{"estimated_cycles":"1829","iteration_bounds":["1"]}}
  %both = (f32[4]{0:T(128)S(1)}, /*index=1*/f32[6]{0:T(128)S(1)}) all-reduce(%here, %here), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add
  %edge = (bf16[8,1,32,3]{3,2,1,0:T(8,128)(2,1)S(1)}, bf16[8,1,32,3]{3,2,1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%g), channel_id=3, source_target_pairs={{0,1},{1,2}}
  %edge.1 = bf16[8,1,32,3]{3,2,1,0:T(8,128)(2,1)S(1)} collective-permute-done(%edge)
  %less = f32[3]{0:T(128)S(1)} reduce-scatter(%in), channel_id=4, replica_groups={{0,1},{2,3}}, dimensions={0}, to_apply=%add
  %t.3 = (f32[5]{0:T(128)}) tuple(%a)
  %w.1 = (f32[5]{0:T(128)}) while(%t.3), condition=%go, body=%body
  ROOT %out = f32[5]{0:T(128)} get-tuple-element(%w.1), index=0
}
"""  # noqa: E501


def test_collectives_and_bytes_by_hand():
    found = read_text(TEXT, 10.0)
    assert found.collectives == {
        "all-reduce": Collective(1, 4 * 10, round(4 * 10 * 2 * 3 / 4)),  # groups of four
        "all-gather": Collective(1, 2 * 48, 2 * 48 * 7 // 8),  # once, though in two fusions
        "collective-permute": Collective(1, 2 * 8 * 32 * 3, 2 * 8 * 32 * 3),
        "reduce-scatter": Collective(1, 4 * 2 * 1024, 4 * 1024),
    }
    # Off the chip: a slice of 2 rows; a is copied, read twice and written by the loop, and read and
    # written by what that calls; and w, in a tile of 8 x 128.
    assert found.moved == 4 * 2 * 1024 + 4 * 128 + (3 + 2) * 4 * 128 + 2 * 8 * 128
    assert found.flops == 10
    assert found.cycles == 1829 + 40  # of what runs, not of what a fusion is made of


def padded_by_numpy(shape, tile, dtype):
    """Returns the bytes of an array padded to whole tiles along its last axes."""
    array = np.zeros(shape, dtype)
    array = array.reshape((1,) * (len(tile) - array.ndim) + array.shape)
    missing = [-n % t for n, t in zip(array.shape[::-1], tile[::-1], strict=False)][::-1]
    widths = [(0, 0)] * (array.ndim - len(tile)) + [(0, n) for n in missing]
    return np.pad(array, widths).nbytes


@pytest.mark.parametrize("tile", [(8, 128), (4, 128), (128,)], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (300,), (3, 3, 4, 8), (17, 1, 129), (8, 128)])
def test_tiles_by_numpy(shape, tile):
    sides, inner = ",".join(map(str, shape)), ",".join(map(str, tile))
    for order in itertools.islice(itertools.permutations(range(len(shape))), 6):
        layout = f"{','.join(map(str, order))}:T({inner})S(1)"
        laid = tuple(shape[axis] for axis in reversed(order))
        for name, dtype in (("f32", np.float32), ("bf16", np.uint16), ("pred", np.bool_)):
            found = _shape(name, sides, layout)
            assert found.padded == padded_by_numpy(laid, tile, dtype)
            assert found.size == np.zeros(shape, dtype).nbytes
            assert found.space == 1
    assert _shape("f32", sides, "") == (4 * math.prod(shape), 4 * math.prod(shape), 0)


def compiled_on_eight(function, spec, shape, result):
    kept = (AxisType.Auto,) * 2
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=kept, devices=jax.devices()[:8])
    where, there = (NamedSharding(mesh, x) for x in (spec, result))
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where)
    return read_program(jax.jit(function, out_shardings=there).lower(x).compile())


def test_collectives_of_eight_devices():
    whole, rows = PartitionSpec(), PartitionSpec("a")
    summed = compiled_on_eight(lambda x: x.sum(0), rows, (24, 5), whole)
    assert summed.collectives == {"all-reduce": Collective(1, 20, 30)}  # 2 * 3/4 of it
    both = PartitionSpec(("a", "b"))
    gathered = compiled_on_eight(lambda x: x * 2, both, (24, 5), whole)
    assert gathered.collectives == {"all-gather": Collective(1, 480, 420)}
    assert compiled_on_eight(lambda x: x * 2, rows, (24, 5), rows).collectives == {}


def test_bytes_and_operations_of_a_product():
    product = jax.jit(lambda x, y: jnp.sin(x) @ y)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((30, 70), (70, 50))]
    found = read_program(product.lower(*shapes).compile())
    assert found.flops == pytest.approx(2 * 30 * 70 * 50, rel=0.1)
    sine, rest = 4 * 2 * 30 * 70, 4 * (30 * 70 + 70 * 50 + 30 * 50)
    assert found.moved == sine + rest


def test_roofline_by_hand():
    sends = {"all-reduce": Collective(2, 30, 4_000), "all-gather": Collective(1, 9, 6_000)}
    program = Program(394e12, 81_900, sends, 0)
    least = program.least_seconds(TPUS["v5e"])
    assert least == pytest.approx({"computing": 2.0, "memory": 1e-7, "links": 5e-8})
    assert program._replace(collectives={}).least_seconds(TPUS["v5e"])["links"] == 0
