"""Noise levels as the public programs compute them, in float32 and in their order of operations.

Their numbers were learned on these grids: the last level of time_uniform comes out as 0.0020132 instead of 0.002.
"""

import math

import numpy as np
import torch
from torch import Tensor

EPSILON = 1e-3  # the least time of a VP process


def polynomial(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """Karras et al. 2022, eq. 5."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + torch.arange(num_steps) / (num_steps - 1) * (low - high)) ** rho


def time_uniform(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """Uniform steps in the time of a VP process."""
    log_variance = [torch.as_tensor(np.log((torch.tensor(sigma) ** 2 + 1).numpy())) for sigma in (sigma_min, sigma_max)]
    beta_d = 2 * (log_variance[0] / EPSILON - log_variance[1]) / (EPSILON - 1)
    beta_min = log_variance[1] - 0.5 * beta_d
    u = (1 + torch.arange(num_steps) / (num_steps - 1) * (EPSILON ** (1 / rho) - 1)) ** rho
    return (np.e ** (0.5 * beta_d * u**2 + beta_min * u) - 1) ** 0.5


def linear_betas(start: float, end: float, count: int = 1000) -> Tensor:
    """alphas_cumprod of evenly spaced betas, in float32."""
    return (1 - torch.linspace(start, end, count)).cumprod(0)


def sigmas_of(alphas_cumprod: Tensor) -> Tensor:
    """sigma = sqrt((1 - a) / a)."""
    return ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5


class LatentTime:
    """The clock of latent diffusion, u(sigma) and sigma(u): ln alpha is linear between the entries of its table."""

    def __init__(self, start: float, end: float, count: int = 1000):
        betas = np.linspace(start**0.5, end**0.5, count) ** 2  # evenly spaced square roots
        self.log_alpha = 0.5 * torch.log(torch.tensor(np.cumprod(1 - betas), dtype=torch.float32))
        self.time = torch.linspace(0.0, 1.0, count + 1)[1:]

    @staticmethod
    def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
        right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
        x_0, x_1, y_0, y_1 = xs[right - 1], xs[right], ys[right - 1], ys[right]
        return y_0 + (x - x_0) * (y_1 - y_0) / (x_1 - x_0)

    def sigma(self, u: Tensor) -> Tensor:
        log_alpha = self._interpolate(u, self.time, self.log_alpha)
        return torch.sqrt(1.0 - torch.exp(2.0 * log_alpha)) / torch.exp(log_alpha)

    def u(self, sigma: Tensor) -> Tensor:
        log_alpha = -0.5 * torch.logaddexp(torch.zeros(()), 2.0 * sigma.log())
        return self._interpolate(log_alpha, self.log_alpha.flip(0), self.time.flip(0))

    def bounds(self) -> tuple[float, float]:
        return float(self.sigma(torch.tensor(EPSILON))), float(self.sigma(torch.tensor(1.0)))

    def discrete(self, num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
        """Uniform steps in u^(1 / rho); the root of the largest time is left out there."""
        low, high = self.u(torch.tensor(sigma_min)), self.u(torch.tensor(sigma_max))
        return self.sigma((high + torch.arange(num_steps) / (num_steps - 1) * (low ** (1 / rho) - high)) ** rho)


def shifted(s: np.ndarray, shift: float) -> Tensor:
    """s' = shift s / (1 + (shift - 1) s), the level of a flow model at a larger resolution (Esser et al. 2024)."""
    return torch.from_numpy(shift * s / (1 + (shift - 1) * s)).float()


def flow_to_zero(num_steps: int, tokens: int) -> Tensor:
    """FLUX: num_steps levels s from 1 on and then 0, shifted by exp(mu), mu linear in the tokens of the image."""
    mu = 0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256)
    return torch.cat([shifted(np.linspace(1, 1 / num_steps, num_steps), math.exp(mu)), torch.zeros(1)])


def flow_above_zero(num_steps: int, s_min: float, shift: float) -> Tensor:
    """num_steps levels, evenly spaced from 1 to s_min, and then shifted."""
    return shifted(np.linspace(1, s_min, num_steps), shift)
