"""Tiny ONNX models with the interface of an exported run: image uint8 [B, H, W, C] to labels."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def conv_model(kernel: np.ndarray, bias: np.ndarray, *, extra: int = 0) -> bytes:
    """Makes a model: a convolution over values 0 to 1 with zeros around, and the largest class.

    Args:
        kernel: float32 [3, 3, C, K].
        bias: float32 [K].
        extra: Numbers of an array that nothing depends on, so that the model is large.

    Images with a value above 250 are of another range.
    """
    arrays = {
        "kernel": kernel.transpose(3, 2, 0, 1),
        "bias": bias,
        "white": np.array(255, np.float32),
        "most": np.array(250, np.float32),
        "extra": np.zeros(max(extra, 1), np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        node("Div", ["values", "white"], ["unit"]),
        node("Transpose", ["unit"], ["first"], perm=[0, 3, 1, 2]),
        node("Conv", ["first", "kernel", "bias"], ["scores"], pads=[1, 1, 1, 1]),
        node("Transpose", ["scores"], ["logits"], perm=[0, 2, 3, 1]),
        node("ReduceSum", ["extra"], ["nothing"], keepdims=0),
        node("Add", ["logits", "nothing"], ["sums"]),
        node("Softmax", ["sums"], ["probability"], axis=-1),
        node("ArgMax", ["sums"], ["ids"], axis=-1, keepdims=0),
        node("Cast", ["ids"], ["label"], to=TensorProto.UINT8),
        node("ReduceMax", ["values"], ["largest"], axes=[1, 2, 3], keepdims=0),
        node("Greater", ["largest", "most"], ["other_range"]),
    ]
    channels, classes = kernel.shape[2:]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info("image", TensorProto.UINT8, ["b", "h", "w", channels])],
        [
            info("label", TensorProto.UINT8, ["b", "h", "w"]),
            info("probability", TensorProto.FLOAT, ["b", "h", "w", classes]),
            info("other_range", TensorProto.BOOL, ["b"]),
        ],
        [numpy_helper.from_array(x, name) for name, x in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def conv_labels(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Returns the labels uint8 [H, W] of an image uint8 [H, W, C], and the scores, by NumPy."""
    unit = np.pad(image.astype(np.float64) / 255, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(unit, (3, 3), axis=(0, 1))
    scores = np.einsum("hwcyx,yxck->hwk", windows, kernel.astype(np.float64)) + bias
    return scores.argmax(-1).astype(np.uint8), scores
