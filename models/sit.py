"""SiT (Ma et al. 2024): DiT's network as a flow model.

SiT's clock t runs from noise to data, x_t = t x_0 + (1 - t) e, and its velocity is x_0 - e. Here s = 1 - t.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from autoencoder import FirstStage, ScaledLatents
from contract import make_facts
from dit import SCALE_FACTOR, Transformer, features_of, read_parts

SIGMA_MIN, SIGMA_MAX = 0.001, 1.0
TRAINED = {"path_type": "Linear", "prediction": "velocity"}


class SitDenoiser(ScaledLatents):
    """The contract's module of a flow model: forward gives the velocity e - x_0."""

    def __init__(self, network: Transformer, first_stage: FirstStage, scale_factor: float):
        super().__init__()
        self.network, self.noise_features = network, features_of(network)
        self.first_stage, self.scale_factor = first_stage, scale_factor

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        features = self.noise_features(1 - sigma.to(x.dtype))
        return -self.network(x, features, condition)[:, : x.shape[1]].to(x.dtype)


def read_model(name: str, files: list[Path], sizes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """SiT's checkpoint, then the autoencoder's. Trained on the linear path to the velocity, as published."""
    network, first_stage, facts, arguments = read_parts(files, sizes)
    for option, value in TRAINED.items():
        if arguments.get(option, value) != value:
            raise ValueError(f"{files[0]}: trained with {option} {arguments[option]}; only {value} is supported")
    model = SitDenoiser(network, first_stage, sizes.scale_factor or SCALE_FACTOR)
    noise = {"kind": "flow", "shift": 1}
    return model, make_facts(dataset_name=name, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, noise=noise, **facts)
