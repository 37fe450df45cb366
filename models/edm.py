"""EDM checkpoints (cifar10, ffhq, afhqv2, imagenet64): the networks and preconditionings that their pickles name.

The pickle's own constructor arguments give the sizes, so every configuration of the family loads; its embedded source
is never looked at.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contract import make_facts, sources
from dhariwal_unet import DhariwalUNet
from preconditioning import (
    EdmDenoiser,
    NearestTime,
    NoiseDenoiser,
    NoiseFeatures,
    VeDenoiser,
    VpTime,
)
from safe_load import Record, load
from song_unet import SongUNet
from state_dict import StateDict, load_strictly, state_of

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # where the file leaves the range open (EDM, Table 1)
# Entries that serve training alone: the augmentation labels, which are zero in sampling.
TRAINING_ONLY = {"map_augment.weight"}
# Arguments that do not shape the network in sampling.
UNUSED_ARGUMENTS = {"augment_dim", "dropout", "label_dropout", "embedding_type"}
POSITIONAL = ("img_resolution", "in_channels", "out_channels", "label_dim")


def read_model(name: str, files: list[Path], sizes: Any = None) -> tuple[nn.Module, dict[str, Any]]:
    """The denoiser of an EDM pickle and its facts."""
    content = load(files[0])
    try:
        model, facts = read_content(content, name, sources(*files))
        wanted = sizes and sizes.resolution
        if wanted and wanted != facts["resolution"]:
            raise ValueError(f"--resolution {wanted} does not fit a model of {facts['resolution']} pixels a side")
        return model, facts
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{files[0]}: no EDM model that this program knows ({type(error).__name__}: {error})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{files[0]}: {error}") from error


def read_content(content: Any, name: str, source: dict[str, str]) -> tuple[nn.Module, dict[str, Any]]:
    """The same from what safe_load found in the pickle."""
    outer = find_denoiser(content)
    inner = outer.state["_modules"]["model"]
    network, features = build_network(inner)
    denoiser, low, high, noise = build_denoiser(outer, network, features)
    label_dim = int(outer.state["label_dim"])
    facts = make_facts(
        dataset_name=name,
        resolution=int(outer.state["img_resolution"]),
        channels=int(outer.state["img_channels"]),
        sigma_min=low,
        sigma_max=high,
        label_dim=label_dim,
        condition="label" if label_dim else "none",
        label_format="onehot" if label_dim else None,
        # On a GPU that is fast in it, bfloat16 costs the demo's images an RMSE of 0.0098, its solver 0.105.
        precision="float16" if outer.state.get("use_fp16") else "bfloat16",
        noise=noise,
        source=source,
    )
    return denoiser, facts


def find_denoiser(content: Any) -> Record:
    """The pickled denoiser: the whole file, or its averaged weights (`ema`)."""
    if isinstance(content, dict):
        content = content.get("ema") or content.get("net")
    if not isinstance(content, Record) or content.class_name not in PRECONDITIONINGS:
        found = content.class_name if isinstance(content, Record) else type(content).__name__
        raise ValueError(f"expected a pickled {', '.join(PRECONDITIONINGS)}, found {found}")
    return content


def arguments_of(inner: Record) -> dict[str, Any]:
    """The constructor arguments of the pickled network, by name."""
    return {**dict(zip(POSITIONAL, inner.state.get("_init_args", ()))), **dict(inner.state.get("_init_kwargs", {}))}


def build_network(inner: Record) -> tuple[nn.Module, NoiseFeatures]:
    """The network with its weights, and the noise features that it wants."""
    networks = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}
    if inner.class_name not in networks:
        raise ValueError(f"the pickle's network is a {inner.class_name}; known are {', '.join(networks)}")
    arguments = arguments_of(inner)
    weights = {name: value for name, value in state_of(inner).items() if name not in TRAINING_ONLY}
    fourier = weights.pop("map_noise.freqs", None)
    if (arguments.get("embedding_type") == "fourier") != (fourier is not None):
        raise ValueError(f"map_noise.freqs does not go with embedding_type {arguments.get('embedding_type')!r}")
    with torch.device("meta"):
        network = networks[inner.class_name](
            **{key: value for key, value in arguments.items() if key not in UNUSED_ARGUMENTS}
        )
    load_strictly(network, StateDict(weights))
    song = inner.class_name == "SongUNet"
    if fourier is not None:
        return network, NoiseFeatures(2 * math.pi * fourier.float(), sine_first=True)
    half = network.map_layer0.in_features // 2
    exponents = torch.arange(half, dtype=torch.float32) / (half - 1 if song else half)
    return network, NoiseFeatures((1 / 10000) ** exponents, sine_first=song)


# Each gives the denoiser, its sigma range, and the noise table's facts.


def _edm(
    record: Record, network: nn.Module, features: nn.Module, label_dim: int
) -> tuple[nn.Module, float, float, Any]:
    state = record.state
    low, high = max(float(state["sigma_min"]), SIGMA_MIN), min(float(state["sigma_max"]), SIGMA_MAX)
    return EdmDenoiser(network, features, label_dim, float(state["sigma_data"])), low, high, None


def _vp(record: Record, network: nn.Module, features: nn.Module, label_dim: int) -> tuple[nn.Module, float, float, Any]:
    state = record.state
    beta_d, beta_min = float(state["beta_d"]), float(state["beta_min"])
    denoiser = NoiseDenoiser(network, features, VpTime(beta_d, beta_min, int(state["M"])), label_dim)
    noise = {"kind": "vp", "beta_d": beta_d, "beta_min": beta_min}
    return denoiser, float(state["sigma_min"]), float(state["sigma_max"]), noise


def _ve(record: Record, network: nn.Module, features: nn.Module, label_dim: int) -> tuple[nn.Module, float, float, Any]:
    return (
        VeDenoiser(network, features, label_dim),
        float(record.state["sigma_min"]),
        float(record.state["sigma_max"]),
        None,
    )


def _iddpm(
    record: Record, network: nn.Module, features: nn.Module, label_dim: int
) -> tuple[nn.Module, float, float, Any]:
    table: Tensor = record.state["_buffers"]["u"].float()
    denoiser = NoiseDenoiser(network, features, NearestTime(table), label_dim)
    return denoiser, float(record.state["sigma_min"]), float(record.state["sigma_max"]), None


PRECONDITIONINGS = {"EDMPrecond": _edm, "VPPrecond": _vp, "VEPrecond": _ve, "iDDPMPrecond": _iddpm}


def build_denoiser(outer: Record, network: nn.Module, features: nn.Module) -> tuple[nn.Module, float, float, Any]:
    """(denoiser, sigma_min, sigma_max, noise facts) of the pickled preconditioning."""
    return PRECONDITIONINGS[outer.class_name](outer, network, features, int(outer.state["label_dim"]))
