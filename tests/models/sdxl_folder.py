"""A folder of Stable Diffusion XL base as diffusers saves it, at full size, in half precision, with random weights.

python sdxl_folder.py FOLDER        needs diffusers and transformers; writes 7 GB, a weight at a time
"""

import json
import math
import struct
import sys
from pathlib import Path

import diffusers
import torch
import transformers

UNET = dict(
    sample_size=128, block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(5, 10, 20),
    cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time",
    addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)  # fmt: skip
DECODER = dict(
    block_out_channels=(128, 256, 512, 512), latent_channels=4, layers_per_block=2, sample_size=1024,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=0.13025,
)  # fmt: skip
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
CLIP_G = dict(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280,
    hidden_act="gelu",
)  # fmt: skip
SCHEDULER = dict(
    _class_name="EulerDiscreteScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    num_train_timesteps=1000, prediction_type="epsilon",
)  # fmt: skip


def write_half(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of float16 weights that keep activations of order one."""
    header, end, generator = {}, 0, torch.Generator().manual_seed(0)
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            scale = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
            weight = torch.randn(shape, generator=generator).mul_(scale)
            weight += float(len(shape) == 1 and name.endswith("weight"))
            file.write(weight.half().numpy().tobytes())


def main() -> None:
    folder, clip = Path(sys.argv[1]), transformers.CLIPTextConfig
    with torch.device("meta"):
        parts = {
            "unet": diffusers.UNet2DConditionModel(**UNET),
            "vae": diffusers.AutoencoderKL(**DECODER),
            "text_encoder": transformers.CLIPTextModel(clip(**CLIP_L)),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(clip(**CLIP_G)),
        }
    index = {"_class_name": "StableDiffusionXLPipeline", "scheduler": ["diffusers", SCHEDULER["_class_name"]]}
    for name, module in parts.items():
        of_text = name.startswith("text")
        index[name] = ["transformers" if of_text else "diffusers", type(module).__name__]
        (folder / name).mkdir(parents=True)
        module.config.architectures = [type(module).__name__] if of_text else None
        (module.config.save_pretrained if of_text else module.save_config)(folder / name)
        shapes = {key: list(value.shape) for key, value in module.state_dict().items() if "position_ids" not in key}
        file = "model.safetensors" if of_text else "diffusion_pytorch_model.safetensors"
        write_half(folder / name / file, shapes)
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        index[name] = ["transformers", "CLIPTokenizer"]
        (folder / name).mkdir()
        config = {"tokenizer_class": "CLIPTokenizer", "pad_token": pad}
        (folder / name / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": True}))


if __name__ == "__main__":
    main()
