"""Small networks of diffusers and transformers with random weights, and what is made of them: folders, single files."""

import json
import re
import sys
import tempfile
import unittest
from pathlib import Path

import diffusers
import torch
import transformers
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))
import contract  # noqa: E402
from diffusers_schedule import alphas_cumprod  # noqa: E402
from export import Sizes, read_model  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
diffusers.logging.set_verbosity_error()


def spread(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights away from what training starts with: norms are not ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.parameters():
        value.data += 0.05 * torch.randn(value.shape, generator=generator)
    return module.eval().requires_grad_(False)


def pixel_unet(**changes) -> torch.nn.Module:
    options = {
        "sample_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    return spread(diffusers.UNet2DModel(**(options | changes)), 1)


def text_unet(**changes) -> torch.nn.Module:
    options = {
        "sample_size": 8, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 4,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 16,
    }  # fmt: skip
    return spread(diffusers.UNet2DConditionModel(**(options | changes)), 2)


def decoder(**changes) -> torch.nn.Module:
    options = {
        "block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 16,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    }  # fmt: skip
    return spread(diffusers.AutoencoderKL(**(options | changes)), 3)


def text_encoder(kind=transformers.CLIPTextModel, **changes) -> torch.nn.Module:
    options = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
        "projection_dim": 12, "eos_token_id": 49407, "bos_token_id": 49406,
    }  # fmt: skip
    return spread(kind(transformers.CLIPTextConfig(**(options | changes))), 4)


def save_text(folder: Path, parts: dict[str, torch.nn.Module], scheduler: dict, pads: dict[str, str]) -> Path:
    """A pipeline's folder of these parts, with configs alone for tokenizers."""
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", scheduler["_class_name"]]}
    for name, module in parts.items():
        library = "diffusers" if isinstance(module, diffusers.ModelMixin) else "transformers"
        index[name] = [library, type(module).__name__]
        module.save_pretrained(folder / name)
    for name, pad in pads.items():
        index[name] = ["transformers", "CLIPTokenizer"]
        (folder / name).mkdir()
        (folder / name / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "pad_token": pad})
        )
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def denoised(unet, scheduler: dict, x: Tensor, m: int, prediction: str, **condition) -> Tensor:
    """D at time m of the table, as diffusers' schedulers find the image."""
    alpha = alphas_cumprod(scheduler)[m].double()
    a, s = alpha.sqrt(), (1 - alpha).sqrt()
    scaled = (a * x.double()).float()
    output = unet(scaled, m, **condition).sample[:, : x.shape[1]].double()
    if prediction == "epsilon":
        return (scaled - s * output) / a
    return output if prediction == "sample" else a * scaled - s * output


def texts() -> Tensor:
    """A short text, an empty one, and one that fills every token, padded as the programs do."""
    tokens = torch.full((3, 77), 49407)
    tokens[:, 0] = 49406
    tokens[0, 1:9] = torch.arange(300, 308)
    tokens[2, 1:76] = torch.arange(500, 575)
    return tokens


def padded(tokens: Tensor, pad: int) -> Tensor:
    tokens = tokens.clone()
    for row in tokens:
        row[int((row == 49407).int().argmax()) + 1 :] = pad
    return tokens


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def assert_close(self, actual, expected, tolerance=1e-5):
        self.assertLessEqual(contract.relative_error(actual.double(), expected.double()), tolerance)

    def read(self, source=None, more=(), **options):
        module, facts = read_model("my-model", [source or self.folder, *more], Sizes(**options))
        module = module.eval().requires_grad_(False)
        contract.verify(module, torch.jit.script(module), facts)
        return module, facts

    def refused(self, pattern: str, source=None, more=(), **options):
        with self.assertRaisesRegex(ValueError, pattern) as caught:
            read_model("my-model", [source or self.folder, *more], Sizes(**options))
        self.assertNotIn("\n", str(caught.exception))

    def save_ddpm(self, unet=None, **scheduler) -> torch.nn.Module:
        unet = unet or pixel_unet()
        diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**scheduler)).save_pretrained(self.folder)
        return unet


LEAVES = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
TOPS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
VAE = {
    "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2", "mid_block.attentions.0": "mid.attn_1",
    "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out", "group_norm": "norm", "to_q": "q", "to_k": "k",
    "to_v": "v", "to_out.0": "proj_out", "resnets": "block", "upsamplers.0": "upsample", "downsamplers.0": "downsample",
    "down_blocks": "down",
}  # fmt: skip
OPENCLIP = {
    "embeddings.position_embedding.weight": "positional_embedding", "embeddings.token_embedding": "token_embedding",
    "final_layer_norm": "ln_final", "encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1",
    "layer_norm2": "ln_2", "self_attn": "attn", "fc1": "c_fc", "fc2": "c_proj",
}  # fmt: skip


def renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return name


def original_unet(unet: torch.nn.Module) -> dict[str, Tensor]:
    """The state dict of a U-Net under the names of the original program."""
    layers = unet.config.layers_per_block + 1
    attentive = [type(block).__name__.startswith("CrossAttn") for block in unet.up_blocks]

    def place(found: re.Match) -> str:
        level, kind, number = int(found[2]), found[3], int(found[4])
        if kind in ("downsamplers", "upsamplers"):
            down = kind == "downsamplers"
            return f"input_blocks.{layers * (level + 1)}.0.op" if down else (
                f"output_blocks.{layers * level + layers - 1}.{1 + attentive[level]}.conv")  # fmt: skip
        block = f"input_blocks.{layers * level + number + 1}" if found[1] == "down" else (
            f"output_blocks.{layers * level + number}")  # fmt: skip
        return f"{block}.{int(kind == 'attentions')}"

    state = {}
    for name, value in unet.state_dict().items():
        top = renamed(name, TOPS)
        top = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(?:\.conv(?=\.))?(?=\.)", place, top)
        state[top if "transformer_blocks" in name else renamed(top, LEAVES)] = value
    return state


def original_vae(vae: torch.nn.Module) -> dict[str, Tensor]:
    levels, state = len(vae.config.block_out_channels), {}
    for name, value in vae.state_dict().items():
        new = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", renamed(name, VAE))
        state[new] = value[:, :, None, None] if "attn_1" in new and value.dim() == 2 else value
    return state


def original_openclip(encoder: torch.nn.Module, last: bool) -> dict[str, Tensor]:
    """`last`: a further layer, which Stable Diffusion 2 does not read."""
    state, stacked = {}, {}
    for name, value in encoder.state_dict().items():
        name = renamed(name.removeprefix("text_model."), OPENCLIP)
        if found := re.fullmatch(r"(.*\.attn)\.([qkv])_proj\.(\w+)", name):
            stacked.setdefault(f"{found[1]}.in_proj_{found[3]}", {})[found[2]] = value
        elif name == "text_projection.weight":
            state["text_projection"] = value.T.contiguous()
        else:
            state[name] = value
    state |= {name: torch.cat([parts[part] for part in "qkv"]) for name, parts in stacked.items()}
    count = encoder.config.num_hidden_layers
    if last:
        first = {name: value for name, value in state.items() if ".resblocks.0." in name}
        state |= {name.replace(".0.", f".{count}."): 2 * value for name, value in first.items()}
    return state | {"logit_scale": torch.ones([])}


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}
