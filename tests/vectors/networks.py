"""The networks of other libraries in PyTorch, for `make_vectors.py`; needs the extra "torch"."""

import functools
import importlib.metadata
import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn


class _DoubleConv(nn.Module):
    def __init__(self, c: int, f: int) -> None:
        super().__init__()
        layers = [
            (nn.Conv2d(wide, f, 3, padding=1, bias=False), nn.BatchNorm2d(f), nn.ReLU())
            for wide in (c, f)
        ]
        self.double_conv = nn.Sequential(*itertools.chain(*layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.double_conv(x)


class _Down(nn.Module):
    def __init__(self, c: int, f: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConv(c, f))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maxpool_conv(x)


class _Up(nn.Module):
    def __init__(self, c: int, f: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c, f, 2, stride=2)
        self.conv = _DoubleConv(2 * f, f)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class _Out(nn.Module):
    def __init__(self, f: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(f, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class _Milesial(nn.Module):
    def __init__(self, features: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        self.levels = len(features)
        self.inc = _DoubleConv(channels, features[0])
        for i, (c, f) in enumerate(itertools.pairwise(features), 1):
            self.add_module(f"down{i}", _Down(c, f))
        for i, (c, f) in enumerate(itertools.pairwise(features[::-1]), 1):
            self.add_module(f"up{i}", _Up(c, f))
        self.outc = _Out(features[0], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.inc(x)]
        for i in range(1, self.levels):
            skips.append(self.get_submodule(f"down{i}")(skips[-1]))
        x = skips.pop()
        for i in range(1, self.levels):
            x = self.get_submodule(f"up{i}")(x, skips.pop())
        return self.outc(x)


def milesial(features: Sequence[int], channels: int, classes: int) -> nn.Module:
    """Builds the U-Net of milesial/Pytorch-UNet, with its names, of any width and depth."""
    return _Milesial(features, channels, classes)


def resnet_features(variant: str) -> nn.Module:
    """Builds torchvision's ResNet without fc, which returns the feature maps of five strides."""
    model = getattr(torchvision.models, variant)(weights=None)
    model.fc = nn.Identity()
    model.forward = functools.partial(_feature_maps, model)
    return model


def _feature_maps(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    maps = [model.relu(model.bn1(model.conv1(x)))]
    x = model.maxpool(maps[0])
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        maps.append(x)
    return maps


def paper(features: Sequence[int], channels: int, classes: int) -> nn.ModuleList:
    """Lists the layers with parameters of Ronneberger et al., 2015, Fig. 1."""

    def double(c: int, f: int) -> list[nn.Module]:
        return [nn.Conv2d(c, f, 3), nn.Conv2d(f, f, 3)]

    layers = double(channels, features[0])
    for c, f in itertools.pairwise(features):
        layers += double(c, f)
    for c, f in itertools.pairwise(features[::-1]):
        layers += [nn.ConvTranspose2d(c, f, 2, stride=2), *double(2 * f, f)]
    return nn.ModuleList([*layers, nn.Conv2d(features[0], classes, 1)])


def nnunet(dims: int, features: Sequence[int], blocks: Sequence[int] = ()) -> nn.Module:
    """Builds what nnU-Net v2 plans: plain, or with a residual encoder of so many blocks.

    1 channel, 2 classes, filters of size 3, stride 2 in every stage but the first.
    """
    common = {
        "input_channels": 1,
        "n_stages": len(features),
        "features_per_stage": tuple(features),
        "conv_op": {2: nn.Conv2d, 3: nn.Conv3d}[dims],
        "kernel_sizes": 3,
        "strides": (1, *[2] * (len(features) - 1)),
        "num_classes": 2,
        "conv_bias": True,
        "norm_op": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "deep_supervision": True,
    }
    if blocks:
        return ResidualEncoderUNet(
            n_blocks_per_stage=tuple(blocks), n_conv_per_stage_decoder=1, **common
        )
    return PlainConvUNet(n_conv_per_stage=2, n_conv_per_stage_decoder=2, **common)


def counts() -> list[dict[str, Any]]:
    """Counts parameters of every network, on torch's meta device."""
    wide = {"features": (64, 128, 256, 512, 1024)}
    capped = (32, 64, 128, 256, 512, 512, 512, 512)
    residual = ((32, 64, 128, 256, 512, 512), (1, 3, 4, 6, 6, 6))
    nnunets = [
        *({"dims": 2, "features": f} for f in (capped, capped[:4])),
        {"dims": 3, "features": (32, 64, 128, 256, 320)},
        *({"dims": 2, "features": residual[0][:n], "blocks": residual[1][:n]} for n in (6, 3)),
        {"dims": 3, "features": (32, 64, 128, 256, 320), "blocks": (1, 3, 4, 6, 6)},
    ]
    github = "layers built by networks.py as in github.com/milesial/Pytorch-UNet, bilinear=False"
    figure = "layers built by networks.py as in Ronneberger et al., 2015, Fig. 1"
    library = f"torchvision {torchvision.__version__.split('+')[0]}: torchvision.models, no fc"
    version = importlib.metadata.version("dynamic-network-architectures")
    planned = (
        f"dynamic-network-architectures {version} (of nnU-Net v2): {{}} with conv_bias=True, "
        "affine InstanceNorm, LeakyReLU, deep_supervision=True (a head in every decoder stage), "
        "1 channel, 2 classes, filters of size 3, stride 2 in every stage but the first"
    )
    plain = planned.format("PlainConvUNet, n_conv_per_stage=2, n_conv_per_stage_decoder=2")
    rest = planned.format("ResidualEncoderUNet, BasicBlockD, n_conv_per_stage_decoder=1")
    table = [
        ("milesial", milesial, [wide | {"channels": 3, "classes": 2}], github),
        ("paper", paper, [wide | {"channels": c, "classes": 2} for c in (1, 3)], figure),
        ("resnet", resnet_features, [{"variant": f"resnet{d}"} for d in (18, 34, 50)], library),
        ("nnunet_plain", nnunet, [s for s in nnunets if "blocks" not in s], plain),
        ("nnunet_residual", nnunet, [s for s in nnunets if "blocks" in s], rest),
    ]
    found = []
    for network, build, variants, source in table:
        for settings in variants:
            with torch.device("meta"):
                size = sum(p.numel() for p in build(**settings).parameters())
            found.append(
                {"network": network, "settings": settings, "parameters": size, "source": source}
            )
    return found
