"""A weights file for the Inception network: random numbers of a seed, under the published names."""

import sys

import torch
from torch import Tensor

from latent_support import ROOT

sys.path.insert(0, str(ROOT / "models"))
import inception  # noqa: E402

GOLDEN = ROOT / "tests/golden/metrics/inception.npz"


def random_weights(seed: int = 3) -> dict[str, Tensor]:
    """Weights that keep activations of order one, classifier and batch counters too, as published."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in inception.Inception(half_pixel=False).state_dict().items()}
    shapes |= {"fc.weight": torch.Size([1008, 2048]), "fc.bias": torch.Size([1008])}
    weights = {}
    for name in sorted(shapes):
        values = torch.randn(shapes[name], generator=generator)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
        elif name.endswith("running_var"):
            weights[name] = 0.5 + values.abs()
        elif values.dim() > 1:
            weights[name] = values * (2 / values[0].numel()) ** 0.5
        else:
            weights[name] = 0.1 * values + (1 if name.endswith("weight") else 0)
    return weights


def pictures() -> Tensor:
    """Two pictures that are not square, of smooth and of rough content."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(56), indexing="ij")
    smooth = torch.stack([2 * y + x, 255 - 3 * y, 4 * x]).clamp(0, 255)
    rough = torch.stack([(37 * y + 91 * x) % 256, (53 * y * x) % 256, (x * x + 7 * y) % 256])
    return torch.stack([smooth, rough]).to(torch.uint8)
