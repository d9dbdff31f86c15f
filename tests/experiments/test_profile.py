import jax
import jax.numpy as jnp
import pytest

from experiments.bench.ablate import leave_out
from experiments.bench.profile import SEVERAL, Roof, tabulate
from experiments.bench.program import Operation, kind_of, operations
from experiments.bench.timeline import NOT_ATTRIBUTED, Span, attribute, read_trace
from unet_jax.models.fast import convolve, max_pool
from unet_jax.models.unet import UNet

FORWARD, BACKWARD = "jit(train_step)/jvp(UNet)/", "jit(train_step)/transpose(jvp(UNet))/"
NUMBERS = ("NHWC", "HWIO", "NHWC")
ENCODER, DECODER = "UNet._encode/encoder_0/", "decoder_0/decoder_0."


@pytest.mark.parametrize(
    ("scope", "opcode", "kind"),
    [
        (FORWARD + DECODER + "convolve/Conv_0/conv_general_dilated", "", "convolution, forward"),
        (BACKWARD + "head/conv_general_dilated", "", "convolution, other gradients"),
        (BACKWARD + "Conv_1/filter_gradient/cond/mul", "", "convolution, filter gradient"),
        (BACKWARD + "Conv_1/data_gradient/slice", "slice", "convolution, data gradient"),
        (BACKWARD + ENCODER + "encoder_0.convolve/BatchNorm_1/mul", "multiply", "normalisation"),
        (FORWARD + ENCODER + "encoder_0.convolve/GroupNorm_0/sub", "subtract", "normalisation"),
        (BACKWARD + "bottom_4/activation/select_n", "select", "activation"),
        (FORWARD + "UNet._encode/pool/max", "maximum", "pooling"),
        (BACKWARD + "UNet._encode/transpose(jvp(pool))/eq", "compare", "pooling"),
        (BACKWARD + "up_1/bhwc,ijcf->bhiwjf/dot_general", "dot", "way up"),
        (FORWARD + "concatenate", "concatenate", "concatenation"),
        (BACKWARD + "split", "slice", "concatenation"),
        ("jit(train_step)/jvp(loss)/reduce_sum", "reduce", "loss"),
        ("jit(train_step)/optimizer/mul", "multiply", "optimiser"),
        ("jit(train_step)/augment/while/body/add", "add", "augmentation"),
        (FORWARD + DECODER + "convolve/Conv_0/transpose", "transpose", "copies"),
        ("", "copy", "copies"),
        ("jit(loss)/jvp(jit(augment))/add", "add", "other"),
        ("", "add", "other"),
        (FORWARD + "pad", "pad", "other"),
    ],
)  # fmt: skip
def test_the_scope_says_the_kind_of_work(scope, opcode, kind):
    assert kind_of(scope, opcode) == kind


# By hand: 2 x 3 x 5 of 4 products each; [2, 6, 6, 7] of 3 x 3 x 4 each, twice for the additions.
def test_flops_bytes_and_kinds_of_a_program_by_hand():
    text = """
HloModule jit_train_step
%fused (p: f32[100], q: f32[100]) -> f32[100] {
  %p = f32[100]{0} parameter(0)
  %q = f32[100]{0} parameter(1)
  %a = f32[100]{0} add(%p, %q), metadata={op_name="jit(f)/jvp(UNet)/BatchNorm_0/add"}
  %tiny = f32[5]{0} slice(%a), metadata={op_name="jit(f)/jvp(UNet)/up_0/slice"}
  ROOT %m = f32[100]{0} maximum(%a, %q), metadata={op_name="jit(f)/jvp(UNet)/x/activation/max"}
}

ENTRY %main (x: f32[3,4], y: bf16[2,6,6,4]) -> f32[3,2,5] {
  %x = f32[2,3,4]{2,1,0} parameter(0)
  %w = f32[2,4,5]{2,1,0} parameter(1)
  %y = bf16[2,6,6,4]{3,2,1,0} parameter(2)
  %k = bf16[3,3,4,7]{3,2,1,0} parameter(3)
  %v = f32[100]{0} parameter(4)
  %z = f32[2,6,6,7]{3,2,1,0} parameter(5)
  %d = f32[2,3,5]{2,1,0} dot(%x, %w), lhs_batch_dims={0}, lhs_contracting_dims={2}
  %c = bf16[2,6,6,7]{3,2,1,0} convolution(%y, %k), window={size=3x3}, dim_labels=b01f_01io->b01f
  %g = f32[3,3,4,7]{3,2,1,0} custom-call(%y, %z), custom_call_target="unet_jax_0a_filter_gradient"
  %n = f32[2,6,6,7]{3,2,1,0} custom-call(%y, %k), custom_call_target="unet_jax_0a_convolution"
  %read = f32[2,3,5]{2,1,0} negate(%d), metadata={op_name="jit(f)/optimizer/neg"}
  ROOT %both = f32[100]{0} fusion(%v, %v), kind=kLoop, calls=%fused
}
"""
    found = operations(text)
    assert found["d"] == Operation("optimiser", 2 * 2 * 3 * 5 * 4, 4 * (24 + 40 + 30))
    numbers = 2 * 6 * 6 * 4 + 9 * 4 * 7 + 2 * 6 * 6 * 7
    assert found["c"] == Operation("other", 2 * 2 * 6 * 6 * 7 * 36, 2 * numbers)
    assert found["g"].flops == found["n"].flops == 2 * 2 * 6 * 6 * 9 * 4 * 7
    assert found["both"] == Operation("activation + normalisation", 0, 4 * 300)


def test_moments_belong_to_what_has_the_cores():
    # Nanoseconds: one 0 to 4, with a part of it 1 to 2; two 2 to 6 beside it; nothing to 10.
    spans = [Span("one", 0, 4, "a"), Span("part", 1, 2, "a"), Span("two", 2, 6, "b")]
    found = attribute(spans, 10e-9, cores=2)
    expected = {"one": 2e-9, "part": 1e-9, "two": 3e-9, NOT_ATTRIBUTED: 4e-9}
    assert found == pytest.approx(expected)
    assert attribute([*spans, Span("late", 6, 99, "b")], 8e-9, cores=2) == pytest.approx(
        {"one": 2e-9, "part": 1e-9, "two": 3e-9, "late": 2e-9, NOT_ATTRIBUTED: 0.0}, abs=1e-20
    )
    assert attribute([], 3.0, cores=2) == {NOT_ATTRIBUTED: 3.0}


def test_what_was_handed_out_has_the_cores_that_are_left():
    # A copy 0 to 8 and a convolution 4 to 8 were handed out; on threads one 0 to 6, two 0 to 2.
    spans = [Span("copy", 0, 8), Span("one", 0, 6, "a"), Span("two", 0, 2, "b")]
    found = attribute([*spans, Span("conv", 4, 8)], 8e-9, cores=2)
    # 0 to 2 none is left; to 4 one, to 6 one for both, to 8 two for both.
    expected = {"one": 1 + 1 + 1, "two": 1, "copy": 1 + 0.5 + 1, "conv": 0.5 + 1}
    assert found == pytest.approx({k: 1e-9 * v for k, v in expected.items()} | {NOT_ATTRIBUTED: 0})
    found = attribute([*spans, Span("conv", 4, 8)], 8e-9, cores=3)
    expected = {"one": 2 / 3 + 2 / 3 + 2 / 3, "two": 2 / 3, "copy": 2 / 3 + 4 / 3 + 2 / 3 + 1}
    expected |= {"conv": 2 / 3 + 1}
    assert found == pytest.approx({k: 1e-9 * v for k, v in expected.items()} | {NOT_ATTRIBUTED: 0})


def test_rows_sum_to_the_step_and_small_fusions_share_one():
    known = {
        "c": Operation("convolution, forward", 8e9, 1e9),
        "n": Operation("normalisation", 0, 4e9),
        "m": Operation("activation + normalisation", 0, 1e9),
        "s": Operation("activation + pooling", 0, 0),
    }
    times = {"c": 3.0, "n": 2.5, "m": 1.0, "s": 0.01, "?": 0.2, NOT_ATTRIBUTED: 0.5}
    rows = tabulate(times, known, Roof(flops=4e9, bytes=2e9))
    assert sum(row.seconds for row in rows.values()) == pytest.approx(sum(times.values()))
    shown = {kind: (row.seconds, row.least) for kind, row in rows.items()}
    assert shown == {
        "convolution, forward": (3.0, 2.0),
        "normalisation": (2.5, 2.0),
        "activation + normalisation": (1.0, 0.5),
        "other": (0.2, 0.0),
        SEVERAL: (0.01, 0.0),
        NOT_ATTRIBUTED: (0.5, 0.0),
    }
    assert next(iter(rows)) == "convolution, forward"
    assert list(rows)[-1] == NOT_ATTRIBUTED


def test_what_a_real_program_ran_is_found_in_its_trace(tmp_path):
    def loss(kernel, x):
        with jax.named_scope("Conv_0"):
            y = convolve(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=NUMBERS)
        return jnp.sum(max_pool(jnp.sin(y)))

    x, kernel = jnp.ones((2, 32, 32, 16)), jnp.ones((3, 3, 16, 16))
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(kernel, x).compile()
    jax.block_until_ready(compiled(kernel, x))
    with jax.profiler.trace(str(tmp_path)):
        for _ in range(2):
            jax.block_until_ready(compiled(kernel, x))
    (file,) = tmp_path.rglob("*.xplane.pb")
    runs = read_trace(str(file))
    assert len(runs) == 2
    known = operations(compiled.as_text())
    kinds = {known[span.name].kind for span in runs[1] if span.name in known}
    text = " ".join(kinds)
    assert "convolution, filter gradient" in text
    assert "convolution, data gradient" in text
    assert "convolution, forward" in text
    assert "pooling" in text


@pytest.mark.parametrize(
    ("name", "key"),
    [("activation", "custom_jvp_call"), ("normalisation", "rsqrt"), ("pooling", "_max_pool")],
)
def test_a_kind_that_is_left_out_is_not_in_the_program(name, key):
    model = UNet(2, (4, 8))
    image = jnp.zeros((1, 8, 8, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))

    def program():
        def forward(variables):
            return model.apply(variables, image, train=True, mutable=["batch_stats"])

        return str(jax.make_jaxpr(forward)(variables))

    assert key in program()
    with leave_out(name):
        assert key not in program()
    assert key in program()
