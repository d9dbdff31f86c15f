"""The whole prediction as ONNX: any number of images of any size, for any of its runtimes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from unet_jax.export import pipeline as pipelines
from unet_jax.export.bundle import Bundle
from unet_jax.export.pipeline import Pipeline, make_pipeline, plain_forms
from unet_jax.process.whole import write_whole

if TYPE_CHECKING:
    import onnx

FILE = "model.onnx"
IMAGE = "image"
OPSET, IR_VERSION = 18, 9  # of operators and of files; onnxruntime has both since 1.14


def export(bundle: Bundle, folder: Path) -> None:
    """Writes the model, with what it says of itself in its metadata.

    Args:
        bundle: The model.
        folder: Where; it is there.

    Raises:
        UserError: The model has an operation that ONNX has no rule for.
    """
    write_whole(folder / FILE, make_model(bundle).SerializeToString())


def make_model(bundle: Bundle) -> "onnx.ModelProto":
    """Makes the ONNX model of a bundle.

    Its input is "image" [b, *n, C] of the type that the run's images have, its outputs those of
    `pipeline.OUTPUTS`. Convolutions are float32, whatever they were in training.

    Args:
        bundle: The model.

    Returns:
        The model; its metadata has `Bundle.describe` as JSON, by "unet_jax".

    Raises:
        UserError: See `export`.
    """
    pipeline = make_pipeline(bundle.network, bundle.variables, dtype="float32")
    model = of_pipeline(pipeline)
    entry = model.metadata_props.add()
    entry.key, entry.value = "unet_jax", json.dumps(bundle.describe())
    return model


def of_pipeline(
    pipeline: Pipeline, outputs: Sequence[str] = pipelines.OUTPUTS
) -> "onnx.ModelProto":
    """Makes the ONNX model of a prediction alone; see `make_model`.

    Args:
        pipeline: The prediction, of a float32 network.
        outputs: Those of it to have, in this order.

    Returns:
        The model.

    Raises:
        UserError: See `export`.
    """
    import onnx
    from onnx import helper

    from unet_jax.export.graph.builder import Builder, Value, onnx_type
    from unet_jax.export.graph.trace import emit, flat_names

    weights, image, steps = pipeline.arguments()
    with plain_forms():
        traced = jax.jit(pipeline.apply).trace(weights, image, steps)
    symbols = "dhw"[-pipeline.axes :]
    sizes: dict[str, object] = {"b": (IMAGE, 0)}
    for axis, n in enumerate(symbols, start=1):
        sizes[n] = IMAGE, axis
        if pipeline.grid:
            sizes[f"k{n}"] = pipeline.grid.text(n)
    builder = Builder(sizes)
    inputs = [
        Value(builder.initializer(name, pipeline.weights[name]), shape.shape, shape.dtype)
        for name, shape in zip(flat_names(weights), jax.tree.leaves(weights), strict=True)
    ]
    inputs.append(Value(IMAGE, image.shape, image.dtype))
    inputs += [Value("", k.shape, k.dtype) for k in steps]  # lengths, which nothing reads
    names = flat_names(jax.tree.map(lambda _: 0, traced.out_info))
    results = dict(zip(names, emit(builder, traced.jaxpr, inputs), strict=True))
    made = []
    for name in outputs:
        value = results[name]
        builder.nodes.append(helper.make_node("Identity", [builder.full(value)], [name]))
        shape = [size if isinstance(size, int) else str(size) for size in value.shape]
        made.append(helper.make_tensor_value_info(name, onnx_type(value.dtype), shape))
    shape = [size if isinstance(size, int) else str(size) for size in image.shape]
    given = helper.make_tensor_value_info(IMAGE, onnx_type(image.dtype), shape)
    graph = helper.make_graph(builder.nodes, "unet", [given], made, builder.initializers)
    model = helper.make_model(
        graph,
        producer_name="unet_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model
