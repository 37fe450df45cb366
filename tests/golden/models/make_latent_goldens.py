"""Runs the original latent diffusion programs on small models of synthetic weights and writes latent_goldens.npz.

    python make_latent_goldens.py --stable-diffusion DIR --taming DIR --epd DIR

with checkouts of CompVis/stable-diffusion 21f890f (whose U-Net, autoencoders and LatentDiffusion are also those of
CompVis/latent-diffusion a506df5), CompVis/taming-transformers 3ba01b2, BeierZhu/EPD 94c00d0 (its preconditioning), and
torch, numpy, einops and transformers 4.46.3 installed. pytorch_lightning, torchvision and Pillow serve training and
pictures there and are replaced by empty stand-ins.

The file holds inputs and the original's outputs, and as JSON (`recipes`) the names and shapes of each original state dict
and the seed from which latent_support.py draws the weights. The published models are there by their shapes alone.
"""

import argparse
import json
import sys
import types
from pathlib import Path

import numpy
import torch
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "models"))
from latent_support import is_weight, synthetic_weights  # noqa: E402


def stand_in(name: str, **attributes) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def prepare_imports(options: argparse.Namespace) -> None:
    stand_in("pytorch_lightning", LightningModule=torch.nn.Module)
    stand_in("pytorch_lightning.utilities")
    stand_in("pytorch_lightning.utilities.distributed", rank_zero_only=lambda function: function)
    stand_in("torchvision")
    stand_in("torchvision.utils", make_grid=None)
    stand_in("PIL", Image=None, ImageDraw=None, ImageFont=None)
    stand_in("omegaconf")
    stand_in("omegaconf.listconfig", ListConfig=tuple)
    # The preconditioning alone is taken from there; how that file decorates its other networks does not matter.
    stand_in("torch_utils", persistence=types.SimpleNamespace(persistent_class=lambda cls: cls))
    sys.path[:0] = [options.stable_diffusion, options.taming]
    # Imported by file, so that neither checkout's `models` folder hides the other's.
    import importlib.util

    spec = importlib.util.spec_from_file_location("networks_edm", Path(options.epd) / "models/networks_edm.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["networks_edm"] = module
    spec.loader.exec_module(module)


def text_model(head_channels: int, width: int, layers: int) -> type:
    """A class like the original's FrozenCLIPEmbedder around a small, randomly initialised CLIPTextModel."""

    class Embedder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            config = CLIPTextConfig(
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=width // head_channels,
            )
            self.transformer = CLIPTextModel(config)

    return Embedder


def first_stage(kind: str, channels: int, ch_mult: list[int], attn: list[int], codes: int = 0) -> dict:
    ddconfig = dict(
        double_z=kind == "AutoencoderKL", z_channels=channels, resolution=8 * 2 ** (len(ch_mult) - 1), in_channels=3, out_ch=3,
        ch=32, ch_mult=ch_mult, num_res_blocks=1, attn_resolutions=attn, dropout=0.0,
    )  # fmt: skip
    params = dict(ddconfig=ddconfig, embed_dim=channels, lossconfig=dict(target="torch.nn.Identity"))
    if codes:
        params["n_embed"] = codes
    return dict(target=f"ldm.models.autoencoder.{kind}", params=params)


def configurations() -> dict[str, dict]:
    unet = dict(image_size=8, num_res_blocks=1, model_channels=32, channel_mult=[1, 2])
    return {
        # As lsun_bedroom_ldm, but small.
        "ldm": dict(
            unet=dict(unet, in_channels=3, out_channels=3, attention_resolutions=[2, 1], num_head_channels=16),
            first_stage=first_stage("VQModelInterface", 3, [1, 2, 2], [], codes=64),
            diffusion=dict(linear_start=0.0015, linear_end=0.0195, channels=3, concat_mode=False),
            options=dict(head_channels=16),
        ),
        # What the published model has not: scale and shift, resampling residual blocks, two blocks a level, no attention in
        # the finest level, attention in the decoder's levels, another table of noise levels, a latent scale from the data.
        "odd": dict(
            unet=dict(
                unet, in_channels=4, out_channels=4, channel_mult=[1, 1, 2], num_res_blocks=2, attention_resolutions=[4], num_heads=4,
                use_scale_shift_norm=True, resblock_updown=True,
            ),
            first_stage=first_stage("AutoencoderKL", 4, [1, 2], [16]),
            diffusion=dict(linear_start=0.001, linear_end=0.03, timesteps=300, channels=4, concat_mode=False, scale_by_std=True, scale_factor=0.3),
            options=dict(num_heads=4),
        ),
        # As ms_coco, but small.
        "sd": dict(
            unet=dict(
                unet, in_channels=4, out_channels=4, attention_resolutions=[2, 1], num_heads=4,
                use_spatial_transformer=True, context_dim=32, transformer_depth=2, legacy=False,
            ),
            first_stage=first_stage("AutoencoderKL", 4, [1, 2, 2], []),
            diffusion=dict(linear_start=0.00085, linear_end=0.0120, channels=4, use_ema=False, conditioning_key="crossattn", scale_factor=0.18215),
            text=dict(head_channels=8, width=32, layers=2),
            options=dict(num_heads=4, head_channels=8),
        ),
    }  # fmt: skip


def build(configuration: dict) -> torch.nn.Module:
    from ldm.models.diffusion.ddpm import LatentDiffusion

    condition = "__is_unconditional__"
    if "text" in configuration:
        stand_in("small_text_model", Embedder=text_model(**configuration["text"]))
        condition = dict(target="small_text_model.Embedder")
    parameters = (
        dict(timesteps=1000, **configuration["diffusion"])
        if "timesteps" not in configuration["diffusion"]
        else configuration["diffusion"]
    )
    unet = dict(target="ldm.modules.diffusionmodules.openaimodel.UNetModel", params=configuration["unet"])
    return LatentDiffusion(
        first_stage_config=configuration["first_stage"], cond_stage_config=condition, unet_config=unet, **parameters
    ).eval()


def run(model: torch.nn.Module, channels: int, has_text: bool) -> dict[str, torch.Tensor]:
    """The original's outputs for a batch of three, two of them with noise levels a little beyond the ends of the table."""
    from networks_edm import CFGPrecond

    generator = torch.Generator().manual_seed(1)
    kind = "classifier-free" if has_text else "uncond"
    denoiser = CFGPrecond(model, guidance_type=kind, guidance_rate=1.0, img_resolution=8, img_channels=channels)
    arrays = {"sigma_range": torch.tensor([denoiser.sigma_min, denoiser.sigma_max], dtype=torch.float64)}
    arrays["sigma"] = torch.tensor([0.9 * denoiser.sigma_min, 1.7, 1.1 * denoiser.sigma_max])
    arrays["x"] = (
        torch.randn(3, channels, 8, 8, generator=generator) * (arrays["sigma"][:, None, None, None] ** 2 + 1).sqrt()
    )
    arrays["latent"] = torch.randn(2, channels, 8, 8, generator=generator).requires_grad_(True)
    condition = [None] * 3
    if has_text:
        arrays["tokens"] = torch.randint(49408, (3, 77), generator=generator)
        arrays["text"] = model.cond_stage_model.transformer(input_ids=arrays["tokens"]).last_hidden_state
        condition = list(arrays["text"].split(1))
    with model.ema_scope():
        # One at a time: with text and rate 1 the original multiplies the image by the wrong axis of the scale.
        arrays["denoised"] = torch.cat(
            [denoiser(x, s, c) for x, s, c in zip(arrays["x"].split(1), arrays["sigma"].split(1), condition)]
        )
    arrays["image"] = model.differentiable_decode_first_stage(arrays["latent"])
    arrays["image"].square().sum().backward()
    arrays["latent_gradient"] = arrays["latent"].grad
    arrays["alphas_cumprod"] = model.alphas_cumprod
    if model.scale_by_std:
        arrays["scale_factor"] = model.scale_factor
    return {name: value.detach() for name, value in arrays.items()}


def published_shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the published checkpoints' weights: configurations of the two projects' YAML files, built without memory."""
    from ldm.models.autoencoder import AutoencoderKL, VQModelInterface
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    decoder = dict(resolution=256, in_channels=3, out_ch=3, ch=128, num_res_blocks=2, attn_resolutions=[], dropout=0.0)
    vq = dict(decoder, double_z=False, z_channels=3, ch_mult=[1, 2, 4])
    kl = dict(decoder, double_z=True, z_channels=4, ch_mult=[1, 2, 4, 4])
    no_loss = dict(target="torch.nn.Identity")
    bedroom = dict(image_size=64, in_channels=3, out_channels=3, model_channels=224, num_head_channels=32)
    stable = dict(image_size=32, in_channels=4, out_channels=4, model_channels=320, num_heads=8, legacy=False)
    shape = dict(num_res_blocks=2)
    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with torch.device("meta"):
        parts = {
            "lsun_bedroom_ldm": {
                "model.diffusion_model": UNetModel(**bedroom, **shape, attention_resolutions=[8, 4, 2], channel_mult=[1, 2, 3, 4]),
                "first_stage_model": VQModelInterface(embed_dim=3, n_embed=8192, ddconfig=vq, lossconfig=no_loss),
            },
            "ms_coco": {
                "model.diffusion_model": UNetModel(
                    **stable, **shape, attention_resolutions=[4, 2, 1], channel_mult=[1, 2, 4, 4],
                    use_spatial_transformer=True, context_dim=768,
                ),
                "first_stage_model": AutoencoderKL(embed_dim=4, ddconfig=kl, lossconfig=no_loss),
                "cond_stage_model.transformer": CLIPTextModel(clip),
            },
        }  # fmt: skip
    shapes = {
        model: {
            f"{prefix}.{key}": list(value.shape)
            for prefix, part in of_model.items()
            for key, value in part.state_dict().items()
        }
        for model, of_model in parts.items()
    }
    unet = "model.diffusion_model"
    averages = {
        f"model_ema.diffusion_model{key.removeprefix(unet).replace('.', '')}": value
        for key, value in shapes["lsun_bedroom_ldm"].items()
        if key.startswith(unet)
    }
    shapes["lsun_bedroom_ldm"] |= averages
    return shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--stable-diffusion", "--taming", "--epd"):
        parser.add_argument(name, required=True)
    prepare_imports(parser.parse_args())
    recipes, arrays = {}, {}
    for seed, (name, configuration) in enumerate(configurations().items()):
        model = build(configuration)
        state = model.state_dict()
        shapes = {key: list(value.shape) for key, value in state.items() if is_weight(key, value)}
        model.load_state_dict(synthetic_weights(shapes, seed), strict=False)
        recipes[name] = dict(
            seed=seed,
            options=configuration["options"],
            shapes=shapes,
            tables=[key for key in state if key not in shapes],
        )
        outputs = run(model, configuration["unet"]["in_channels"], "text" in configuration)
        arrays |= {f"{name}/{key}": value.numpy() for key, value in outputs.items()}
    for name, shapes in published_shapes().items():
        recipes[name] = dict(seed=0, options={}, shapes=shapes, tables=[])
    text = numpy.frombuffer(json.dumps(recipes).encode(), numpy.uint8)
    numpy.savez_compressed(HERE / "latent_goldens.npz", recipes=text, **arrays)


if __name__ == "__main__":
    main()
