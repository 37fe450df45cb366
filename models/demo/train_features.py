"""Train the demo's feature network and export it as TorchScript.

Usage: python train_features.py emoji32.zip OUT.ts [minutes]
A small convolutional network learns to tell the images apart (one class per image) under shifts, scalings, rotations,
colour changes and noise; its 64 pooled features then serve the Frechet distance on the demo's 32x32 images.
They are not comparable with Inception's.
"""

import math
import sys
import time

import torch
from dataset import read
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureNet(nn.Module):
    """uint8 or float images [N, 3, H, W] in [0, 255] -> float32 features [N, 64]; differentiable from float input."""

    def __init__(self, classes: int):
        super().__init__()
        widths = (3, 32, 64, 128, 128)
        self.stages = nn.ModuleList(self.stage(a, b) for a, b in zip(widths[:-1], widths[1:]))
        self.project = nn.Linear(widths[-1], 64)
        self.classify = nn.Linear(64, classes)

    @staticmethod
    def stage(a: int, b: int) -> nn.Sequential:
        conv, down = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, stride=2, padding=1)
        return nn.Sequential(conv, nn.GroupNorm(8, b), nn.SiLU(), down, nn.GroupNorm(8, b), nn.SiLU())

    def forward(self, images: Tensor, return_features: bool = True) -> Tensor:
        x = images.to(torch.float32) / 127.5 - 1
        if x.shape[1] == 1:
            x = x.repeat(1, 3, 1, 1)
        x = F.interpolate(x, size=[32, 32], mode="bilinear", align_corners=False)
        for stage in self.stages:
            x = stage(x)
        features = self.project(x.mean(dim=[2, 3]))
        return features if return_features else self.classify(F.silu(features))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random affine maps (white outside), colour scale and offset, and a little noise; images in [-1, 1]."""
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    angle, scale, shift = uniform(-0.35, 0.35), uniform(0.8, 1.25), uniform(-0.2, 0.2, 2)
    row_0 = torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1)
    row_1 = torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([row_0, row_1], 1), images.shape, align_corners=False)
    moved = F.grid_sample(images - 1, grid, align_corners=False) + 1
    moved = moved * uniform(0.8, 1.2, 3, 1, 1) + uniform(-0.1, 0.1, 3, 1, 1)
    return (moved + 0.05 * torch.randn(moved.shape, generator=generator)).clamp(-1, 1)


def main(data: str, out: str, minutes: str = "8") -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images = torch.from_numpy(read(data)[0]).float() / 127.5 - 1
    net = FeatureNet(len(images))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    start, budget, step, hits, seen = time.time(), float(minutes) * 60, 0, 0, 0
    while (elapsed := time.time() - start) < budget:
        index = torch.randint(len(images), (128,), generator=generator)
        logits = net((augment(images[index], generator) + 1) * 127.5, False)
        loss = F.cross_entropy(logits, index)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * elapsed / budget))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step, hits, seen = step + 1, hits + (logits.argmax(1) == index).sum().item(), seen + len(index)
        if step % 200 == 0:
            print(
                f"step {step} minutes {elapsed / 60:.1f} loss {loss.item():.3f} accuracy {hits / seen:.3f}", flush=True
            )
            hits = seen = 0
    torch.jit.script(net.eval().requires_grad_(False)).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
