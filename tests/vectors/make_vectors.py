"""Makes the stored vectors and counts of this folder from PyTorch; tests read them without it.

    pip install -e '.[torch]'
    python tests/vectors/make_vectors.py

Run it again only to add a case, never to make a failing test pass: the vectors are another
library's answer and do not change when ours does. It writes:

transposed_convs.npz, per case "00", "01", ...:
    NN/settings   int [5, dims]: rows are filter size, stride, padding, output padding, dilation
    NN/x          [B, *spatial, C_in]
    NN/filter     [*filter size, C_in, C_out]
    NN/bias       [C_out]
    NN/weight     [B, *spatial_out, C_out], of the scalar sum(y * weight)
    NN/y          torch's transposed convolution of x, [B, *spatial_out, C_out]
    NN/dx, NN/dfilter, NN/dbias   gradients of that scalar
milesial.npz: logits [1, 48, 64, 2], in inference, of the U-Net of milesial/Pytorch-UNet with
    MILESIAL's sizes, the weights numbers_for(milesial_shapes(**MILESIAL)) and image((48, 64)).
resnet.npz: VARIANT/STRIDE: torchvision's feature maps [1, H, W, F] of image((64, 64)) in
    inference with the weights numbers_for(resnet_shapes(VARIANT)). Of maps with more than
    MAP_SIZE numbers only every n-th channel is stored, with the least n that is a power of 2.
counts.json: [{"network", "settings", "parameters", "source"}, ...].

All is computed in float64 and stored in float32.
"""

import functools
import json
import math
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MILESIAL = {"features": (4, 8, 16, 32, 64), "channels": 3, "classes": 2}
VARIANTS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
MAP_SIZE = 4096

# Filter size, stride, padding, output padding, dilation, spatial size; one number is for each axis.
CASES_1D = [
    (1, 1, 0, 0, 1, 5), (1, 2, 0, 0, 1, 4), (1, 3, 0, 2, 1, 3), (1, 4, 0, 3, 1, 3),
    (2, 1, 0, 0, 1, 3), (2, 1, 1, 0, 1, 6), (2, 2, 0, 0, 1, 5), (2, 2, 0, 1, 1, 3),
    (2, 3, 0, 0, 1, 3), (2, 3, 1, 2, 1, 4), (2, 4, 0, 1, 1, 3), (3, 1, 1, 0, 1, 5),
    (3, 1, 2, 0, 1, 5), (3, 1, 0, 1, 2, 5), (3, 2, 0, 0, 1, 3), (3, 2, 1, 0, 1, 4),
    (3, 2, 1, 1, 1, 5), (3, 2, 2, 1, 1, 3), (3, 3, 0, 0, 1, 3), (3, 4, 1, 3, 1, 3),
    (4, 1, 3, 0, 1, 6), (4, 2, 1, 0, 1, 5), (4, 2, 0, 1, 3, 3), (4, 3, 2, 1, 1, 4),
    (4, 4, 0, 0, 1, 3), (5, 1, 4, 0, 1, 6), (5, 2, 2, 1, 1, 5), (5, 3, 1, 2, 2, 3),
    (5, 4, 3, 2, 3, 3), (6, 2, 2, 0, 1, 4), (6, 3, 5, 0, 1, 6), (6, 4, 1, 1, 2, 3),
    (7, 1, 3, 0, 1, 4), (7, 2, 3, 1, 1, 5), (7, 3, 6, 2, 1, 5), (7, 4, 0, 0, 3, 3),
    (2, 1, 0, 2, 3, 3), (3, 2, 2, 2, 3, 3), (7, 4, 6, 3, 1, 4), (1, 1, 0, 1, 2, 3),
]  # fmt: skip
CASES_2D = [
    (1, 2, 0, 1, 1, (3, 4)), (2, 2, 0, 0, 1, (3, 5)), (2, 2, 1, 1, 1, (5, 3)),
    (3, 1, 1, 0, 1, (3, 4)), (3, 2, 1, 1, 1, (3, 5)), (3, 2, 0, 0, 2, (3, 3)),
    (4, 2, 1, 0, 1, (3, 4)), (4, 4, 0, 0, 1, (3, 3)), (5, 3, 2, 2, 1, (3, 4)),
    ((2, 3), (1, 2), (0, 1), (0, 1), 1, (3, 4)), ((3, 1), (3, 1), (0, 0), (2, 0), 1, (3, 6)),
    ((5, 2), (2, 4), (4, 0), (1, 3), (1, 3), (5, 3)), ((1, 7), (1, 2), (0, 3), 0, (3, 1), (5, 4)),
    ((6, 4), (3, 2), (2, 3), (0, 1), (1, 2), (3, 4)),
]  # fmt: skip
CASES_3D = [
    (2, 2, 0, 0, 1, (3, 3, 3)), (3, 2, 1, 1, 1, (3, 4, 3)), (3, 1, 1, 0, 1, (3, 4, 5)),
    ((1, 2, 2), (1, 2, 2), 0, 0, 1, (3, 3, 5)), ((2, 3, 4), (2, 1, 2), (0, 2, 1), (1, 0, 0), 1,
    (3, 5, 3)), ((1, 3, 2), (2, 1, 3), (0, 1, 0), (1, 1, 2), (1, 2, 1), (3, 3, 3)),
]  # fmt: skip


@functools.cache
def numbers(*seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draws float32 numbers of mean 0 and variance 1, the same ones with every release of NumPy.

    NumPy may change what `Generator.normal` draws, but not the raw bits of PCG64.
    """
    raw = np.random.PCG64(list(seed)).random_raw(math.prod(shape))
    uniform = (raw >> np.uint64(40)).astype(np.float64) / 2**24
    drawn = ((2 * uniform - 1) * math.sqrt(3)).astype(np.float32).reshape(shape)
    drawn.flags.writeable = False  # all who ask for the same numbers share them
    return drawn


def numbers_for(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Draws weights for a state dict's names, of a size that keeps activations near 1."""

    def draw(name: str, unit: np.ndarray) -> np.ndarray:
        if unit.ndim > 1:
            return unit * np.float32(math.sqrt(2 / math.prod(unit.shape[1:])))
        centre, spread = {"weight": (0.6, 0.1), "running_var": (1.0, 0.2)}.get(
            name.split(".")[-1], (0.0, 0.1)
        )
        return np.float32(centre) + np.float32(spread) * unit

    return {
        name: draw(name, numbers(seed, index, shape=shapes[name]))
        for index, name in enumerate(sorted(shapes))
    }


def image(size: tuple[int, int]) -> np.ndarray:
    """Draws the input [1, H, W, 3] of the stored logits and feature maps."""
    return numbers(1, shape=(1, *size, 3))


def norm_shapes(name: str, features: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names the tensors of a batch normalisation, but for its count of batches."""
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (features,)


def milesial_shapes(
    features: tuple[int, ...], channels: int, classes: int
) -> dict[str, tuple[int, ...]]:
    """Names the tensors of a state dict of milesial/Pytorch-UNet, but for the counts of batches."""
    last = len(features) - 1
    shapes: dict[str, tuple[int, ...]] = {}

    def double_conv(name: str, c: int, f: int) -> None:
        for i, wide in ((0, c), (3, f)):
            shapes[f"{name}.double_conv.{i}.weight"] = (f, wide, 3, 3)
            shapes.update(norm_shapes(f"{name}.double_conv.{i + 1}", f))

    double_conv("inc", channels, features[0])
    for i in range(1, last + 1):
        double_conv(f"down{i}.maxpool_conv.1", features[i - 1], features[i])
        low, f = features[last - i + 1], features[last - i]
        shapes |= {f"up{i}.up.weight": (low, f, 2, 2), f"up{i}.up.bias": (f,)}
        double_conv(f"up{i}.conv", 2 * f, f)
    shapes |= {"outc.conv.weight": (classes, features[0], 1, 1), "outc.conv.bias": (classes,)}
    return shapes


def resnet_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """Names the tensors of torchvision's ResNet, but for fc and the counts of batches."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, f: int, c: int, size: int) -> None:
        shapes[f"{name}.weight"] = (f, c, size, size)
        shapes.update(norm_shapes(norm, f))

    conv("conv1", "bn1", 64, 3, 7)
    wider = 4 if variant == "resnet50" else 1
    c = 64
    for layer, blocks in enumerate(VARIANTS[variant]):
        f = 64 * 2**layer
        for block in range(blocks):
            name = f"layer{layer + 1}.{block}"
            sizes = ((f, c, 1), (f, f, 3), (4 * f, f, 1)) if wider == 4 else ((f, c, 3), (f, f, 3))
            for i, (out, into, size) in enumerate(sizes, 1):
                conv(f"{name}.conv{i}", f"{name}.bn{i}", out, into, size)
            if block == 0 and c != wider * f:
                conv(f"{name}.downsample.0", f"{name}.downsample.1", wider * f, c, 1)
            c = wider * f
    return shapes


def channel_step(size: int) -> int:
    """Says that every n-th channel of a feature map of so many numbers is stored."""
    return 2 ** max(0, math.ceil(math.log2(size / MAP_SIZE)))


def transposed_conv_cases() -> dict[str, np.ndarray]:
    """Computes the transposed convolutions and their gradients."""
    import torch

    functions = torch.nn.functional
    stored: dict[str, np.ndarray] = {}
    cases = [
        (d, case) for d, list_ in enumerate((CASES_1D, CASES_2D, CASES_3D), 1) for case in list_
    ]
    for index, (dims, case) in enumerate(cases):
        *settings, spatial = (np.broadcast_to(value, (dims,)) for value in case)
        f, s, p, o, d = (tuple(int(v) for v in row) for row in settings)
        x = numbers(2, index, 0, shape=(1, *spatial, 2))
        kernel = numbers(2, index, 1, shape=(*f, 2, 3))
        bias = numbers(2, index, 2, shape=(3,))
        first, last = torch.tensor(np.moveaxis(x, -1, 1)), np.moveaxis(kernel, (-2, -1), (0, 1))
        inputs = [first, torch.tensor(last), torch.tensor(bias)]
        inputs = [value.double().requires_grad_() for value in inputs]
        convolve = getattr(functions, f"conv_transpose{dims}d")
        y = convolve(*inputs, stride=s, padding=p, output_padding=o, dilation=d)
        size = tuple(y.shape[2:])
        assert all(n > 0 for n in size)
        weight = numbers(2, index, 3, shape=(1, *size, 3))
        (y * torch.tensor(np.moveaxis(weight, -1, 1))).sum().backward()
        dx, dkernel, dbias = (value.grad.numpy() for value in inputs)
        arrays = {
            "x": x, "filter": kernel, "bias": bias, "weight": weight,
            "y": np.moveaxis(y.detach().numpy(), 1, -1), "dx": np.moveaxis(dx, 1, -1),
            "dfilter": np.moveaxis(dkernel, (0, 1), (-2, -1)), "dbias": dbias,
        }  # fmt: skip
        stored |= {f"{index:02d}/{key}": value.astype(np.float32) for key, value in arrays.items()}
        stored[f"{index:02d}/settings"] = np.array(settings, np.int8)
    return stored


def load(model: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
    """Puts the drawn weights into a torch model, whose names must be the given ones."""
    import torch

    own = {
        key: tuple(value.shape)
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert own == shapes, {*own.items()} ^ {*shapes.items()}
    weights = {key: torch.tensor(value) for key, value in numbers_for(shapes).items()}
    model.load_state_dict(weights, strict=False)
    return model.double().eval()


def run(model: Any, size: tuple[int, int]) -> Any:
    """Runs a torch model on `image(size)` in float64."""
    import torch

    with torch.no_grad():
        return model(torch.tensor(np.moveaxis(image(size), -1, 1)).double())


def milesial_logits() -> dict[str, np.ndarray]:
    """Computes the logits of the small milesial U-Net."""
    from networks import milesial

    model = load(milesial(**MILESIAL), milesial_shapes(**MILESIAL))
    logits = run(model, (48, 64))
    # The script that goes with --format=safetensors has the same network.
    script = runpy.run_path(str(HERE.parents[1] / "unet_jax" / "export" / "load_torch.py"))
    exported = script["of_weights"](dict(model.float().state_dict())).double()
    assert np.abs((run(exported, (48, 64)) - logits).numpy()).max() < 1e-5
    return {"logits": np.moveaxis(logits.numpy(), 1, -1).astype(np.float32)}


def resnet_maps() -> dict[str, np.ndarray]:
    """Computes feature maps of torchvision's ResNets."""
    from networks import resnet_features

    stored = {}
    for variant in VARIANTS:
        model = load(resnet_features(variant), resnet_shapes(variant))
        for i, map_ in enumerate(run(model, (64, 64))):
            step = channel_step(map_.numel())
            stored[f"{variant}/{2 ** (i + 1)}"] = np.moveaxis(
                map_[:, ::step].numpy(), 1, -1
            ).astype(np.float32)
    return stored


def main() -> None:
    """Writes every file."""
    from networks import counts

    np.savez_compressed(HERE / "transposed_convs.npz", **transposed_conv_cases())
    np.savez_compressed(HERE / "milesial.npz", **milesial_logits())
    np.savez_compressed(HERE / "resnet.npz", **resnet_maps())
    rows = ",\n".join(json.dumps(row) for row in counts())
    (HERE / "counts.json").write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    main()
