"""A published architecture at full size with random weights: exported, loaded by `sample`, run for a step on the CPU.

    python full_size.py NAME SAMPLE_PROGRAM TRAIN_PROGRAM

Prints parameters, the file's size, the peak memory of both programs, and the seconds of one step (one evaluation; for
latent models also the decoding); then what each preset of the model needs of a GPU's memory, which must be no more than
the published recipes' cards have. Ends with 77 (skipped) where this Python has no torch, or where the model needs over
30 s or 8 GiB and EPD_FULL_SIZE is not set.
"""

import json
import lzma
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# GiB of the cards: RTX 4090; A100 and A800. A twentieth is left for what an allocator cannot use.
CARD = dict.fromkeys(("cifar10", "ffhq", "imagenet64"), 24)
LARGE_CARD = 80
LARGE = ("imagenet64", "lsun_bedroom", "imagenet256", "lsun_bedroom_ldm", "ms_coco", "dit-xl-256", "sit-xl-256")
LARGE += ("edm2-img512-s", "edm2-img512-s-autog")

SONG = dict(model_channels=128, channel_mult=[2, 2, 2], num_blocks=4, attn_resolutions=[16])
EDM = {  # network, resolution, labels, arguments of the released pickles
    "cifar10": ("SongUNet", 32, 0, SONG),
    "ffhq": ("SongUNet", 64, 0, SONG | dict(channel_mult=[1, 2, 2, 2])),
    "imagenet64": ("DhariwalUNet", 64, 1000, dict(model_channels=192, channel_mult=[1, 2, 3, 4])),
}


def random_weights(shapes: dict[str, list[int]]) -> dict:
    """Weights that keep activations of order one: scales near 1, the rest by fan-in."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        scale = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
        weights[name] = torch.randn(shape, generator=generator).mul_(scale)
        if len(shape) == 1 and name.endswith("weight"):
            weights[name] += 1
    return weights


def edm_model(name: str):
    import torch

    import edm
    from safe_load import make_record

    network, resolution, labels, arguments = EDM[name]
    arguments = arguments | dict(img_resolution=resolution, in_channels=3, out_channels=3, label_dim=labels)
    with torch.device("meta"):
        own = {"SongUNet": edm.SongUNet, "DhariwalUNet": edm.DhariwalUNet}[network](**arguments)
    weights = random_weights({key: list(value.shape) for key, value in own.state_dict().items() if "filter" not in key})
    filters = {key: torch.full((1, 1, 2, 2), 0.25) for key in own.state_dict() if "filter" in key}
    inner = make_record(network, state={"_init_kwargs": arguments, "_parameters": weights | filters})
    about = dict(
        img_resolution=resolution, img_channels=3, label_dim=labels, sigma_min=0, sigma_max=math.inf, sigma_data=0.5
    )
    outer = make_record("EDMPrecond", state=about | {"_modules": {"model": inner}})
    return edm.read_content({"ema": outer}, name, {})


def checkpoint_model(name: str, folder: Path):
    """By way of checkpoint files in the original form."""
    import torch

    import latent_support
    from export import read_model

    with lzma.open(latent_support.GOLDEN / "published_shapes.json.xz") as file:
        shapes = json.load(file)
    if name in shapes:
        states = [random_weights(shapes[part]) for part in (name, name + "_classifier") if part in shapes]
    else:
        states = [{"state_dict": random_weights(latent_support.recipe(name)["shapes"])}]
    files = [folder / f"{i}.pt" for i in range(len(states))]
    for state, file in zip(states, files):
        torch.save(state, file)
    del states, state
    return read_model(name, files)


def decoder_file(folder: Path) -> Path:
    """Stable Diffusion's autoencoder, the decoder alone."""
    import torch

    import latent_support

    prefix, shapes = "first_stage_model.", latent_support.recipe("ms_coco")["shapes"]
    decoder = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
    torch.save(random_weights(decoder), folder / "decoder.pt")
    return folder / "decoder.pt"


def transformer_model(name: str, folder: Path):
    """DiT-XL/2 or SiT-XL/2, by way of checkpoint files."""
    import torch

    import dit
    from export import read_model

    with torch.device("meta"):
        own = dit.Transformer(4, 2, 256, 1152, 28, 16, 4608, 256, 1000, 8).state_dict()
    torch.save(random_weights({key: list(value.shape) for key, value in own.items()}), folder / "transformer.pt")
    return read_model(name, [folder / "transformer.pt", decoder_file(folder)])


def edm2_model(name: str, folder: Path):
    """EDM2-S on latents, and EDM2-XS as its guide."""
    import struct

    import torch

    import edm2
    from safe_load import make_record

    def array(values):
        kind = make_record("numpy.dtype", "f4")
        return make_record("numpy.ndarray", state=(1, (len(values),), kind, False, struct.pack("<4f", *values)))

    scale = dict(scale=array([0.12, 0.11, 0.13, 0.15]), bias=array([-0.7, -0.35, -0.02, 0.33]))
    encoder, pickles = make_record("StabilityVAEEncoder", state=scale), []
    for channels in (192, 128) if name.endswith("autog") else (192,):
        arguments = dict(img_resolution=64, img_channels=4, label_dim=1000, model_channels=channels)
        with torch.device("meta"):
            own = edm2.MagnitudeUNet(**arguments).state_dict()
        shapes = {key: list(value.shape) for key, value in own.items() if "filter" not in key} | {"out_gain": []}
        shapes |= {key.replace("emb_linear.weight", "emb_gain"): [] for key in shapes if "emb_linear" in key}
        shapes |= {f"emb_fourier.{part}": [channels] for part in ("freqs", "phases")}
        unet = make_record("UNet", state={"_init_kwargs": arguments, "_parameters": random_weights(shapes)})
        about = arguments | dict(sigma_data=0.5, use_fp16=True, _modules={"unet": unet})
        pickles.append((folder / f"{channels}.pkl", {"ema": make_record("Precond", state=about), "encoder": encoder}))
    return edm2.read_content(name, pickles, decoder_file(folder), None)


def maker_of(name: str):
    if name.startswith("edm2"):
        return edm2_model
    return transformer_model if name in ("dit-xl-256", "sit-xl-256") else checkpoint_model


def export(name: str, folder: Path) -> None:
    import contract
    from clip_vocabulary import write_tokenizer

    module, facts = edm_model(name) if name in EDM else maker_of(name)(name, folder)
    if facts["text"]:
        write_tokenizer(folder)
    contract.write_model(module, facts, folder / "denoiser.ts")
    print(sum(parameter.numel() for parameter in module.parameters()))


def feature_network(folder: Path) -> Path:
    """Inception with random weights, for the loss."""
    import torch

    import inception
    import inception_support

    torch.save(inception_support.random_weights(), folder / "inception.pth")
    return inception.export("inception", folder / "inception.pth", folder / "inception.ts")


def gibibytes_of_presets(name: str, folder: Path, sample: str, train: str) -> dict[str, float]:
    """What each preset says that it needs on a GPU, whether or not one is there."""
    detector, needs = feature_network(folder), {}
    for preset in sorted((Path(__file__).resolve().parents[2] / "exp" / "presets").glob("*.json")):
        options = json.loads(preset.read_text())
        trains = preset.stem.startswith("train-")
        of_name = options.get("dataset_name") == name if trains else preset.stem.startswith(name + "-")
        if not of_name:
            continue
        command = [train, "--dry_run", "--detector", detector] if trains else [sample, "--explain"]
        command += ["--config", preset, "--model_path", folder / "denoiser.ts", "--device=cuda"]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        line = next(line for line in lines.splitlines() if line.startswith("memory: "))
        print(f"{preset.stem}: {line}")
        needs[preset.stem] = float(line.split()[1])
    return needs


def gigabytes(usage: int) -> float:
    return usage * 1024 / 1e9


def main() -> int:
    name, program, train = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as temporary:
        folder, begin = Path(temporary), time.monotonic()
        parameters = int(
            subprocess.run(
                [sys.executable, __file__, "--export", name, folder], check=True, stdout=subprocess.PIPE
            ).stdout
        )
        exporting = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        exported = time.monotonic() - begin
        # In an interpreter of its own, so that the peak memory is that of the program.
        ask = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        options = [
            "--model_path",
            folder / "denoiser.ts",
            "--solver=euler",
            "--num_steps=2",
            "--seeds=0",
            "--chunk=1",
            "--device=cpu",
            "--format=raw",
            "--outdir",
            folder / "drawn",
            "--json",
            "--quiet",
        ]
        options += {"ms_coco": ["--prompt=a cat"]}.get(name, [])
        options += ["--guidance_type=autoguidance", "--guidance_rate=2"] if name.endswith("autog") else []
        lines = subprocess.run(
            [sys.executable, "-c", ask, program, *options], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        record, _, peak = lines.rstrip().rpartition("\n")
        record, size = json.loads(record), (folder / "denoiser.ts").stat().st_size
        assert record["made"] == 1 and record["evaluations"] == 1 + name.endswith("autog"), record
        too_much = {
            preset: need
            for preset, need in gibibytes_of_presets(name, folder, program, train).items()
            if need > 0.95 * CARD.get(name, LARGE_CARD)
        }
        assert not too_much, too_much
    print(
        f"{name}: {parameters / 1e6:.1f} M parameters, file {size / 1e9:.2f} GB; exported in {exported:.0f} s with "
        f"{gigabytes(exporting):.1f} GB; sample: {gigabytes(int(peak)):.1f} GB, {record['seconds']:.1f} s a step"
    )
    return 0


if __name__ == "__main__":
    if sys.argv[1] in LARGE and not os.environ.get("EPD_FULL_SIZE"):
        print(f"skipped: {sys.argv[1]} takes minutes or more than 8 GiB; set EPD_FULL_SIZE=1 to run it")
        sys.exit(77)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        print(f"skipped: {sys.executable} cannot import what the exporters need ({error})")
        sys.exit(77)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
    if sys.argv[1] == "--export":
        export(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
