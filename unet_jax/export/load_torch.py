"""Loads model.safetensors, which unet_jax exported, into PyTorch; it needs torch and safetensors.

python load_torch.py model.safetensors image.npy     writes image_logits.npy

    from load_torch import load
    model, read = load("model.safetensors")
    logits = model(read(image))        # [1, K, H, W] of an image [H, W, C]

The names are those of github.com/milesial/Pytorch-UNet (bilinear=False), whose class takes these
weights too. What other U-Nets compute is not written here; their weights have PyTorch's layout and
the names of unet_jax's modules.
"""

import json
import sys

import numpy as np
import torch
from safetensors import safe_open
from torch import nn


class DoubleConv(nn.Module):
    """Two times a 3x3 convolution, batch normalisation and ReLU."""

    def __init__(self, c, f):
        """Makes the layers, from c to f channels."""
        super().__init__()
        layers = []
        for inputs in (c, f):
            layers += [nn.Conv2d(inputs, f, 3, padding=1, bias=False), nn.BatchNorm2d(f), nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        """Maps [B, c, H, W] to [B, f, H, W]."""
        return self.double_conv(x)


class Down(nn.Module):
    """A pooling and a block."""

    def __init__(self, c, f):
        """Makes the layers, from c to f channels."""
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c, f))

    def forward(self, x):
        """Maps [B, c, H, W] to [B, f, H / 2, W / 2]."""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """A transposed convolution, the skip, and a block."""

    def __init__(self, c, f):
        """Makes the layers, from c to f channels."""
        super().__init__()
        self.up = nn.ConvTranspose2d(c, f, 2, stride=2)
        self.conv = DoubleConv(2 * f, f)

    def forward(self, x, skip):
        """Maps [B, c, H, W] and the skip [B, f, 2 H, 2 W] to the skip's shape."""
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class Head(nn.Module):
    """A 1x1 convolution to classes."""

    def __init__(self, c, classes):
        """Makes the layer."""
        super().__init__()
        self.conv = nn.Conv2d(c, classes, 1)

    def forward(self, x):
        """Maps [B, c, H, W] to logits [B, K, H, W]."""
        return self.conv(x)


class UNet(nn.Module):
    """The standard U-Net; sizes have to be multiples of 2 ** (levels - 1)."""

    def __init__(self, channels, features, classes):
        """Makes the layers."""
        super().__init__()
        self.inc = DoubleConv(channels, features[0])
        self.last = len(features) - 1
        for i in range(1, self.last + 1):
            setattr(self, f"down{i}", Down(features[i - 1], features[i]))
            low = self.last - i
            setattr(self, f"up{i}", Up(features[low + 1], features[low]))
        self.outc = Head(features[0], classes)

    def forward(self, x):
        """Maps [B, C, H, W] to logits [B, K, H, W]."""
        skips = [self.inc(x)]
        for i in range(1, self.last + 1):
            skips.append(getattr(self, f"down{i}")(skips[-1]))
        x = skips.pop()
        for i in range(1, self.last + 1):
            x = getattr(self, f"up{i}")(x, skips.pop())
        return self.outc(x)


def of_weights(weights):
    """Makes the U-Net that weights by their names are of, in inference."""
    if "inc.double_conv.0.weight" not in weights:
        sys.exit("error: these weights are of no standard U-Net, which is all that this script has")
    count = sum(name.endswith(".up.weight") for name in weights)
    firsts = ["inc", *(f"down{i}.maxpool_conv.1" for i in range(1, count + 1))]
    features = [weights[f"{name}.double_conv.0.weight"].shape[0] for name in firsts]
    channels = weights["inc.double_conv.0.weight"].shape[1]
    model = UNet(channels, features, weights["outc.conv.weight"].shape[0])
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **weights})
    return model.eval()


def load(path):
    """Loads a model; returns it, and what makes an image [H, W, C] the tensor that it takes."""
    with safe_open(path, framework="pt") as file:
        says = json.loads(file.metadata()["unet_jax"])["image"]
        model = of_weights({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    black, white = says["value_range"]

    def read(image):
        # Of runs with other statistics than their type's range see "normalised" in the metadata.
        unit = (np.asarray(image, np.float32) - black) / (white - black)
        return torch.tensor(np.moveaxis((unit - 0.5) / 0.25, -1, 0)[None])

    return model, read


if __name__ == "__main__":
    network, to_tensor = load(sys.argv[1])
    with torch.no_grad():
        found = network(to_tensor(np.load(sys.argv[2])))
    np.save(sys.argv[2].removesuffix(".npy") + "_logits.npy", found.numpy())
