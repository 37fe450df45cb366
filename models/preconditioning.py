"""What stands between D(x; sigma) and the raw network: noise features, scalings, and the noise levels of VP models."""

import math

import torch
from torch import Tensor, nn


class NoiseFeatures(nn.Module):
    """cos and sin of a noise label times fixed frequencies: [B] -> [B, 2 n]. Kept outside the network, so never in half precision."""

    def __init__(self, frequencies: Tensor, sine_first: bool = False):
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.sine_first = sine_first

    def forward(self, noise_label: Tensor) -> Tensor:
        angles = noise_label[:, None] * self.frequencies[None, :].to(noise_label.dtype)
        if self.sine_first:
            return torch.cat([angles.sin(), angles.cos()], dim=1)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


def geometric_frequencies(count: int, endpoint: bool = False, max_period: float = 1e4) -> Tensor:
    """1 down to 1 / max_period in `count` geometric steps; with `endpoint` the last one is reached."""
    return torch.exp(-math.log(max_period) * torch.arange(count) / (count - 1 if endpoint else count))


class EdmDenoiser(nn.Module):
    """D = c_skip x + c_out F(c_in x; c_noise): Karras et al. 2022, Table 1, column "Ours (EDM)".

    `network(x, noise features, condition)` casts its inputs to its own dtype; all else happens in the dtype of x.
    """

    def __init__(self, network: nn.Module, noise_features: nn.Module, label_dim: int = 0, sigma_data: float = 0.5, noise_scale: float = 1.0):
        super().__init__()
        self.network = network
        self.noise_features = noise_features
        self.label_dim = label_dim
        self.sigma_data = sigma_data
        self.noise_scale = noise_scale  # the noise label is ln(sigma) / 4 times this

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None and self.label_dim > 0:
            condition = torch.zeros([x.shape[0], self.label_dim], dtype=x.dtype, device=x.device)
        sigma = sigma.to(x.dtype)
        variance = (sigma * sigma + self.sigma_data**2)[:, None, None, None]
        c_skip = self.sigma_data**2 / variance
        c_out = sigma[:, None, None, None] * self.sigma_data / variance.sqrt()
        c_in = 1 / variance.sqrt()
        noise = self.noise_features(sigma.log() / 4 * self.noise_scale)
        return c_skip * x + c_out * self.network(c_in * x, noise, condition).to(x.dtype)
