"""Plans of the zoo in diffusers' pipelines of the models that they are for, with small random networks; and a plan that
is learned for a pipeline of one's own, from its folder and back into it.

python run.py diffusers test_plan_pipelines.py SAMPLE        needs transformers, too
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import diffusers
import numpy as np
import torch

from zoo_support import ZOO, plan_of

# isort: split
from plan_runner import run_plan
from plan_scheduler import PlanScheduler

import grids

TOLERANCE = 1e-4
torch.set_num_threads(1)


def tiny_text_pipelines():
    """Stable Diffusion, SD3 and FLUX with random networks, without text encoders."""
    torch.manual_seed(2)
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    one, two = dict(vae=vae, text_encoder=None, tokenizer=None), dict(text_encoder_2=None, tokenizer_2=None)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=4,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    pndm = diffusers.PNDMScheduler(**betas, skip_prk_steps=True)
    sd = diffusers.StableDiffusionPipeline(
        **one, unet=unet, scheduler=pndm, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    heads = dict(num_layers=1, num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=8, patch_size=1)
    sd3_net = diffusers.SD3Transformer2DModel(
        **heads, sample_size=8, in_channels=4, out_channels=4, attention_head_dim=8, caption_projection_dim=16,
        pos_embed_max_size=8,
    )  # fmt: skip
    shifted = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    sd3 = diffusers.StableDiffusion3Pipeline(
        **one, **two, transformer=sd3_net, scheduler=shifted, text_encoder_3=None, tokenizer_3=None
    )
    flux_net = diffusers.FluxTransformer2DModel(
        **heads, in_channels=16, num_single_layers=1, attention_head_dim=16, axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )  # fmt: skip
    dynamic = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    flux = diffusers.FluxPipeline(**one, **two, transformer=flux_net, scheduler=dynamic)
    return sd, sd3, flux


@unittest.skipUnless(importlib.util.find_spec("transformers"), "the text pipelines need transformers")
class TextPipelines(unittest.TestCase):
    def check(self, pipeline, name, denoise, latents, **inputs):
        plan = plan_of(json.loads((ZOO / f"{name}.json").read_text()))
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = PlanScheduler.from_config(pipeline.scheduler.config, plan=plan)
        settings = dict(num_inference_steps=4, latents=latents.clone(), output_type="latent")
        made = pipeline(**inputs, **settings).images
        with torch.no_grad():
            expected = run_plan(plan, latents, denoise)
        self.assertLess(float((made - expected).abs().max() / expected.abs().max()), TOLERANCE)

    def test_zoo_plans_in_the_pipelines_of_their_models(self):
        sd, sd3, flux = tiny_text_pipelines()
        text, empty, pooled, pooled_empty = (torch.randn(1, *shape) for shape in ((7, 16), (7, 16), (8,), (8,)))
        time, latents = grids.LatentTime(0.00085, 0.012), torch.randn(1, 4, 8, 8)

        def guided(with_text, without, rate):
            return without + rate * (with_text - without)

        def denoise_sd(x, level):
            scale = level.reshape(-1, 1, 1, 1)
            z, t = x / (1 + scale**2) ** 0.5, 1000 * time.u(level.float()) - 1
            return x - scale * guided(sd.unet(z, t, text).sample, sd.unet(z, t, empty).sample, 7.5)

        def denoise_sd3(x, s):
            network = lambda *condition: sd3.transformer(x, *condition, 1000 * s, return_dict=False)[0]
            velocities = [
                network(condition.repeat(len(x), 1, 1), vector.repeat(len(x), 1))
                for condition, vector in ((text, pooled), (empty, pooled_empty))
            ]
            return x - s.reshape(-1, 1, 1, 1) * guided(*velocities, 4.5)

        def denoise_flux(x, s):
            ids = diffusers.FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32)
            velocity = flux.transformer(
                x, text, pooled, s, ids, torch.zeros(7, 3), guidance=torch.full([1], 3.5), return_dict=False
            )[0]
            return x - s.reshape(-1, 1, 1) * velocity

        both = dict(prompt_embeds=text, negative_prompt_embeds=empty)
        self.check(sd, "dyweight/ms_coco-12", denoise_sd, latents, **both, guidance_scale=7.5, height=64, width=64)
        both |= dict(pooled_prompt_embeds=pooled, negative_pooled_prompt_embeds=pooled_empty)
        self.check(sd3, "neuralsolver/sit-7", denoise_sd3, latents, **both, guidance_scale=4.5, height=8, width=8)
        size, one = 8 * flux.vae_scale_factor, dict(prompt_embeds=text, pooled_prompt_embeds=pooled)
        packed = torch.randn(1, 16, 16)
        self.check(
            flux, "dyweight/flux-512-7", denoise_flux, packed, **one, guidance_scale=3.5, height=size, width=size
        )


class AModelOfOnesOwn(unittest.TestCase):
    def run_program(self, *command):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def check(self, unet, scheduler, place):
        """From the pipeline's folder to a learned plan, and back into the pipeline: the images are those of sample."""
        programs, export = Path(sys.argv[1]).parent, Path(grids.__file__).parent / "export.py"
        folder, file, exp, plan = (place / name for name in ("pipeline", "model.ts", "exp", "plan.json"))
        diffusers.DDIMPipeline(unet, scheduler).save_pretrained(folder)
        self.run_program(sys.executable, export, "my-model", "--source", folder, "--dest", file)
        model = ["--model_path", file, "--device", "cpu", "--chunk", 2]
        self.run_program(
            programs / "train", "--dataset_name=my-model", *model, "--sampler_stu=ns", "--num_steps=4", "--M=2",
            "--total_kimg=0.016", "--batch=4", "--val_images=4", "--loss_metric=l2", "--outdir", exp,
        )  # fmt: skip
        learned = [programs / "sample", *model, "--predictor_path", next(exp.iterdir())]
        plan.write_text(self.run_program(*learned, "--explain", "--json"))
        self.run_program(*learned, "--seeds=0-1", "--save_inters=True", "--outdir", place / "images")
        states = np.stack([np.load(path) for path in sorted((place / "images").glob("inters/*/*.npy"))])
        first, last = torch.from_numpy(states)[:, 0], torch.from_numpy(states)[:, -1]

        own = diffusers.DDIMPipeline.from_pretrained(folder)
        steps = PlanScheduler.from_config(own.scheduler.config, plan=str(plan))
        pipeline, made = diffusers.ConsistencyModelPipeline(unet=own.unet, scheduler=steps), []
        pipeline.set_progress_bar_config(disable=True)
        latents = first / json.loads(plan.read_text())["times"][0]
        pipeline(batch_size=2, latents=latents, output_type="pt", callback=lambda _step, _time, x: made.append(x))
        self.assertLess(float((made[-1] - last).abs().max() / last.abs().max()), TOLERANCE)

    def test_a_plan_learned_from_its_folder_goes_back_into_its_pipeline(self):
        torch.manual_seed(4)
        unet = diffusers.UNet2DModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        for settings in (
            dict(prediction_type="v_prediction", rescale_betas_zero_snr=True),
            dict(beta_schedule="squaredcos_cap_v2"),
            dict(prediction_type="sample", trained_betas=[0.001 + 0.0002 * n for n in range(100)]),
        ):
            with self.subTest(settings), tempfile.TemporaryDirectory() as place:
                self.check(unet, diffusers.DDIMScheduler(**settings), Path(place))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], warnings="ignore")
