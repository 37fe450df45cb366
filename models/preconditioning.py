"""What stands between D(x; sigma) and the raw network: noise features, scalings, and the noise levels of VP models."""

import math

import torch
from torch import Tensor, nn


class NoiseFeatures(nn.Module):
    """cos and sin of a noise label times fixed frequencies: [B] -> [B, 2 n].

    They stand outside the network, and so are never computed in half precision.
    """

    def __init__(self, frequencies: Tensor, sine_first: bool = False):
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.sine_first = sine_first

    def forward(self, noise_label: Tensor) -> Tensor:
        angles = noise_label[:, None] * self.frequencies[None, :].to(noise_label.dtype)
        if self.sine_first:
            return torch.cat([angles.sin(), angles.cos()], dim=1)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeFeatures(nn.Module):
    """sin and cos of a time [B] times falling frequencies, in float32: [B, channels]."""

    def __init__(self, channels: int, cosine_first: bool, shift: float):
        super().__init__()
        self.channels, self.cosine_first, self.shift = channels, cosine_first, float(shift)

    def forward(self, time: Tensor) -> Tensor:
        half = self.channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=time.device) / (half - self.shift)
        angles = time.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
        sin, cos = angles.sin(), angles.cos()
        return nn.functional.pad(torch.cat([cos, sin] if self.cosine_first else [sin, cos], 1), [0, self.channels % 2])


def geometric_frequencies(count: int, max_period: float = 1e4) -> Tensor:
    """1 downwards in `count` geometric steps; the next would be 1 / max_period."""
    return torch.exp(-math.log(max_period) * torch.arange(count) / count)


class EdmDenoiser(nn.Module):
    """D = c_skip x + c_out F(c_in x; c_noise): Karras et al. 2022, Table 1, column "Ours (EDM)".

    `network(x, noise features, condition)` casts its inputs to its own dtype; all else happens in the dtype of x.
    """

    def __init__(
        self,
        network: nn.Module,
        noise_features: nn.Module,
        label_dim: int = 0,
        sigma_data: float = 0.5,
        noise_scale: float = 1.0,
    ):
        super().__init__()
        self.network = network
        self.noise_features = noise_features
        self.label_dim = label_dim
        self.sigma_data = sigma_data
        self.noise_scale = noise_scale  # the noise label is ln(sigma) / 4 times this

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None and self.label_dim > 0:
            condition = torch.zeros([x.shape[0], self.label_dim], dtype=x.dtype, device=x.device)
        c_skip, c_out, c_in, label = self.scalings(sigma.to(x.dtype))
        return c_skip * x + c_out * self.network(c_in * x, self.noise_features(label), condition).to(x.dtype)

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in [B, 1, 1, 1], and the noise label [B]."""
        variance = (sigma * sigma + self.sigma_data**2)[:, None, None, None]
        root = variance.sqrt()
        c_out = sigma[:, None, None, None] * self.sigma_data / root
        return self.sigma_data**2 / variance, c_out, 1 / root, sigma.log() / 4 * self.noise_scale


class VpTime(nn.Module):
    """The noise label (M - 1) u of a VP model: sigma(u)^2 = exp(beta_d u^2 / 2 + beta_min u) - 1 (Song et al. 2021)."""

    def __init__(self, beta_d: float = 19.9, beta_min: float = 0.1, count: int = 1000):
        super().__init__()
        self.beta_d, self.beta_min, self.count = beta_d, beta_min, count

    def forward(self, sigma: Tensor) -> Tensor:
        root = (self.beta_min**2 + 2 * self.beta_d * (1 + sigma**2).log()).sqrt()
        return (self.count - 1) * ((root - self.beta_min) / self.beta_d)

    def sigma(self, u: float) -> float:
        """The noise level of u, in float64."""
        return math.sqrt(math.expm1(0.5 * self.beta_d * u * u + self.beta_min * u))


class NearestTime(nn.Module):
    """The noise label of an iDDPM model: M - 1 minus the place of the nearest level in its falling table of M + 1."""

    def __init__(self, table: Tensor):
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, sigma: Tensor) -> Tensor:
        nearest = (sigma[:, None] - self.table[None, :]).abs().argmin(1)
        return (self.table.shape[0] - 2 - nearest).to(sigma.dtype)


class NoiseDenoiser(nn.Module):
    """D = x - sigma eps(x / sqrt(1 + sigma^2); time(sigma)) for a network that predicts the noise of a VP process.

    Of more outputs than channels (a learned variance behind the noise), the first count.
    """

    def __init__(
        self, network: nn.Module, noise_features: nn.Module, time: nn.Module, label_dim: int = 0, one_hot: bool = True
    ):
        super().__init__()
        self.network = network
        self.noise_features = noise_features
        self.time = time
        self.zero_labels = label_dim if one_hot else 0

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None and self.zero_labels > 0:
            condition = torch.zeros([x.shape[0], self.zero_labels], dtype=x.dtype, device=x.device)
        sigma = sigma.to(x.dtype)
        scale = sigma[:, None, None, None]
        noise = self.noise_features(self.time(sigma))
        eps = self.network(x / (scale**2 + 1).sqrt(), noise, condition)[:, : x.shape[1]]
        return x - scale * eps.to(x.dtype)


class VeDenoiser(nn.Module):
    """D = x + sigma F(x; ln(sigma / 2)): the VE process of Song et al. 2021 as EDM writes it."""

    def __init__(self, network: nn.Module, noise_features: nn.Module, label_dim: int = 0):
        super().__init__()
        self.network = network
        self.noise_features = noise_features
        self.label_dim = label_dim

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is None and self.label_dim > 0:
            condition = torch.zeros([x.shape[0], self.label_dim], dtype=x.dtype, device=x.device)
        sigma = sigma.to(x.dtype)
        noise = self.noise_features((0.5 * sigma).log())
        return x + sigma[:, None, None, None] * self.network(x, noise, condition).to(x.dtype)
