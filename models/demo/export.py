"""Export the demo denoiser from its weights: python models/demo/export.py [--source ema.pt] [--dest denoiser.ts]"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from contract import make_facts, sources, write_model  # noqa: E402
from demo.unet import UNet  # noqa: E402
from preconditioning import EdmDenoiser, NoiseFeatures, geometric_frequencies  # noqa: E402

LABEL_DIM = 8
WEIGHTS = HERE / "ema.pt"


def make_network() -> EdmDenoiser:
    """D(x; sigma, one-hot label): the U-Net with EDM preconditioning, at its random start."""
    return EdmDenoiser(
        UNet(label_dim=LABEL_DIM), NoiseFeatures(geometric_frequencies(32)), LABEL_DIM, noise_scale=250.0
    )


def load_state(denoiser: EdmDenoiser, state: dict[str, Tensor]) -> None:
    """Take the weights of an `ema.pt`, which names the U-Net's parameters and the noise features' `frequencies`."""
    state = dict(state)
    denoiser.noise_features.load_state_dict({"frequencies": state.pop("frequencies")})
    denoiser.network.load_state_dict(state)


def state_of(denoiser: EdmDenoiser) -> dict[str, Tensor]:
    """The inverse of load_state."""
    return {**denoiser.noise_features.state_dict(), **denoiser.network.state_dict()}


def export(source: Path, dest: Path) -> Path:
    """Write the model file `dest` from the state dict `source`."""
    denoiser = make_network()
    load_state(denoiser, torch.load(source, map_location="cpu", weights_only=True))
    denoiser.network.fold_upsampling()
    facts = make_facts(
        dataset_name="demo",
        resolution=32,
        channels=3,
        sigma_min=0.002,
        sigma_max=80.0,
        label_dim=LABEL_DIM,
        condition="label",
        label_format="onehot",
        source=sources(source),
    )
    return write_model(denoiser, facts, dest)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=WEIGHTS)
    parser.add_argument("--dest", type=Path, default=HERE / "denoiser.ts")
    options = parser.parse_args()
    print(export(options.source, options.dest))
