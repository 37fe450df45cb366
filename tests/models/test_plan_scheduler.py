"""PlanScheduler in real pipelines of diffusers gives the images of `sample` on the same network, exported.

python run.py diffusers test_plan_scheduler.py SAMPLE
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from zoo_support import ZOO, bad_plans, noise, plan_of, raw

# isort: split
from plan_runner import read_plan, run_plan
from plan_scheduler import PlanScheduler

from contract import make_facts, write_model
from ldm import NoiseTable

SAMPLE = sys.argv.pop(1)
TOLERANCE = 1e-4
torch.set_num_threads(1)
BETAS = {"beta_start": 0.0001, "beta_end": 0.02}


def tiny_unet():
    torch.manual_seed(1)
    return (
        diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=8,
        )
        .requires_grad_(False)
        .eval()
    )


class Output(nn.Module):
    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.unet(x, t).sample


class Exported(nn.Module):
    """The contract's D(x; sigma) around a traced network that predicts the noise, v or a flow's velocity."""

    def __init__(self, unet: nn.Module, prediction: str):
        super().__init__()
        example = (torch.randn(2, 3, 8, 8), torch.tensor([7.5, 700.25]))
        self.network = torch.jit.trace(Output(unet), example)
        betas = torch.linspace(BETAS["beta_start"], BETAS["beta_end"], 1000, dtype=torch.float64)
        self.noise = NoiseTable((1 - betas).cumprod(0))
        self.prediction = prediction

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        level = sigma.to(x.dtype)[:, None, None, None]
        if self.prediction == "flow_prediction":
            s = level / (1 + level)
            return (1 - s) * x - s * self.network((1 - s) * x, 1000 * s[:, 0, 0, 0])
        scale = (1 + level**2) ** -0.5
        output = self.network(scale * x, (1000 * self.noise(sigma) - 1).to(x.dtype))
        if self.prediction == "v_prediction":
            return scale**2 * x - scale * level * output
        return x - level * output


def epd_predictor():
    """A student with two parallel points a step."""
    random = np.random.RandomState(2)
    groups = ("r", "weight", "scale_dir", "scale_time")
    fields = dict(format="epd-predictor", version=1, kind="epd", dataset_name="tiny", resolution=8, channels=3)
    fields |= dict(label_dim=0, num_steps=4, num_points=2, afs=False, max_order=None, scale_dir=0.05, scale_time=0.05)
    fields |= dict(fcn=False, guidance_type=None, guidance_rate=None, source="a test")
    fields["schedule"] = {"type": "time_uniform", "rho": 1, "sigma_min": 0.02, "sigma_max": 80}
    return fields | {"parameters": {group: random.standard_normal((3, 2)).tolist() for group in groups}}


def with_noise(plan):
    """The plan with noise in the state at its second and third time."""
    plan, instructions, registers = dict(plan), [], plan["num_registers"]
    for step in plan["instructions"]:
        if step.get("combine") in plan["grid"][1:3]:
            instructions.append({"noise": registers})
            sums = (step["registers"] + [registers], step["coefficients"] + [0.3])
            step, registers = step | dict(zip(("registers", "coefficients"), sums)), registers + 1
        instructions.append(step)
    plan = {key: value for key, value in plan.items() if key not in ("steps", "sha256")}
    return plan | {"instructions": instructions, "num_registers": registers}


class Pipelines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder, cls.unet = Path(folder.name), tiny_unet()
        (cls.folder / "predictor.json").write_text(json.dumps(epd_predictor()))

    def sampled(self, prediction, *options):
        """The plan of `sample`, and its states [seed, time, ...] on the exported network."""
        model = self.folder / f"{prediction}.ts"
        if not model.exists():
            facts = make_facts(dataset_name="tiny", resolution=8, channels=3, sigma_min=0.02, sigma_max=80.0)
            write_model(Exported(self.unet, prediction), facts, model)
        command = [SAMPLE, "--model_path", str(model), *map(str, options)]
        plan = self.folder / "plan.json"
        plan.write_text(
            subprocess.run([*command, "--explain", "--json"], check=True, capture_output=True, text=True).stdout
        )
        with tempfile.TemporaryDirectory() as images:
            drawing = [
                "--seeds=0-1",
                "--chunk=2",
                "--save_inters=True",
                f"--outdir={images}",
                "--device=cpu",
                "--quiet",
            ]
            subprocess.run([*command, *drawing], check=True, capture_output=True)
            states = [np.load(path) for path in sorted(Path(images).glob("inters/*/*.npy"))]
        return read_plan(plan), torch.from_numpy(np.stack(states))

    def drawn(self, scheduler, latents):
        """What the pipeline makes, before it is cut to [0, 1], and its images."""
        pipeline, last = diffusers.ConsistencyModelPipeline(unet=self.unet, scheduler=scheduler), []
        pipeline.set_progress_bar_config(disable=True)
        keep = lambda _step, _timestep, sample: last.append(sample)
        images = pipeline(batch_size=2, latents=latents, output_type="pt", callback=keep).images
        return last[-1], images

    def check(self, plan, states, **settings):
        made, images = self.drawn(PlanScheduler(plan, **BETAS, **settings), states[:, 0] / plan["times"][0])
        error = (made - states[:, -1]).abs().max() / states[:, -1].abs().max()
        self.assertLess(float(error), TOLERANCE)
        self.assertLess(float((images - (states[:, -1] / 2 + 0.5).clamp(0, 1)).abs().max()), TOLERANCE)

    def test_a_pipeline_gives_the_images_of_sample(self):
        student = ("--predictor_path", self.folder / "predictor.json")
        for prediction, *options in (
            ("epsilon", "--solver=heun", "--num_steps=4"),
            ("epsilon", *student),
            ("v_prediction", "--solver=dpmpp", "--num_steps=6", "--afs=True"),
            ("flow_prediction", *student),
        ):
            with self.subTest(f"{options} {prediction}"):
                plan, states = self.sampled(prediction, *options)
                self.check(plan, states, prediction_type=prediction)

    def test_it_is_made_of_the_pipelines_own_scheduler(self):
        plan, states = self.sampled("v_prediction", "--solver=ipndm", "--num_steps=5")
        theirs = diffusers.EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction", timestep_spacing="trailing")
        scheduler = PlanScheduler.from_config(theirs.config, plan=str(self.folder / "plan.json"))
        made, _ = self.drawn(scheduler, states[:, 0] / plan["times"][0])
        self.assertLess(float((made - states[:, -1]).abs().max() / states[:, -1].abs().max()), TOLERANCE)

    def test_the_noise_of_a_plan_comes_from_the_generators_of_the_images(self):
        plan, _ = self.sampled("epsilon", "--solver=heun", "--num_steps=4")
        (self.folder / "sde.json").write_text(json.dumps(with_noise(plan)))
        read, states = self.sampled("epsilon", "--plan", self.folder / "sde.json")
        self.assertEqual(sum("noise" in step for step in read["instructions"]), 2)
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        pipeline = diffusers.ConsistencyModelPipeline(unet=self.unet, scheduler=PlanScheduler(read, **BETAS))
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(batch_size=2, generator=generators, output_type="pt").images
        self.assertLess(float((images - (states[:, -1] / 2 + 0.5).clamp(0, 1)).abs().max()), TOLERANCE)

    def test_guidance_may_double_the_batch_before_the_input_is_scaled(self):
        plan, states = self.sampled("epsilon", "--solver=euler", "--num_steps=4")
        scheduler, sample = PlanScheduler(plan, **BETAS), states[:, 0] / plan["times"][0]
        with torch.no_grad():
            for t in scheduler.timesteps:  # as StableDiffusionPipeline does
                both = scheduler.scale_model_input(torch.cat([sample, sample]), t)
                without, with_prompt = self.unet(both, t).sample.chunk(2)
                output = without + 7.5 * (with_prompt - without)
                sample = scheduler.step(output, t, sample, return_dict=False)[0]
        self.assertLess(float((sample - states[:, -1]).abs().max() / states[:, -1].abs().max()), TOLERANCE)

    def test_a_pipeline_that_does_not_scale_its_noise_is_served(self):
        plan, _ = self.sampled("epsilon", "--solver=heun", "--num_steps=4")
        pipeline = diffusers.DDIMPipeline(unet=self.unet, scheduler=diffusers.DDIMScheduler())
        pipeline.scheduler = PlanScheduler(plan, **BETAS)
        pipeline.set_progress_bar_config(disable=True)
        latents = torch.randn(1, 3, 8, 8, generator=torch.manual_seed(5))
        images = pipeline(generator=torch.manual_seed(5), output_type="pt").images
        first = plan["times"][0]
        exported = Exported(self.unet, "epsilon")
        with torch.no_grad():
            expected = run_plan(plan, latents * (1 + first**2) ** 0.5 / first, lambda x, level: exported(x, level))
        self.assertLess(float((images - (expected / 2 + 0.5).clamp(0, 1)).abs().max()), TOLERANCE)

    def test_plans_on_the_clock_of_flow_models_begin_at_s_1(self):
        for name in ("dyweight/flux-512-5", "neuralsolver/flowdcn-6", "neuralsolver/sit-7"):
            plan = plan_of(json.loads((ZOO / f"{name}.json").read_text()))
            scheduler, sample, shifts = PlanScheduler(plan), noise(), {}
            self.assertAlmostEqual(float(scheduler.timesteps[0]), 1000, delta=20)
            scheduler.set_begin_index(0)
            for t in scheduler.timesteps:  # as FluxPipeline does: no scaling, and told t / 1000
                sample = scheduler.step(raw(sample, t / 1000), t, sample, **shifts).prev_sample
            flow = lambda x, s: x - s.reshape(-1, 1, 1, 1) * raw(x, s)
            expected = run_plan(plan, noise(), flow)
            self.assertLess(float((sample - expected).abs().max() / expected.abs().max()), TOLERANCE, name)

    def test_a_plan_may_begin_with_the_mean(self):
        mean = torch.linspace(-1, 1, 192).reshape(3, 8, 8)
        plan = dict(format="epd-plan", version=1, times=[80, 5], mean=1, grid=[0, 4])
        plan["instructions"] = [
            {"combine": 2, "registers": [0, 1], "coefficients": [0.1, 0.9]},
            {"evaluate": [3], "states": [2], "sigmas": [8.0]},
            {"combine": 4, "registers": [2, 3, 1], "coefficients": [0.5, 0.4, 0.1]},
        ]
        latents = torch.randn(2, 3, 8, 8, generator=torch.manual_seed(6))
        made, _ = self.drawn(PlanScheduler(plan, **BETAS, mean=mean.tolist()), latents)
        exported = Exported(self.unet, "epsilon")
        with torch.no_grad():
            expected = run_plan(plan, latents, lambda x, level: exported(x, level), mean)
        self.assertLess(float((made - expected).abs().max() / expected.abs().max()), TOLERANCE)
        with self.assertRaisesRegex(ValueError, "give mean="):
            self.drawn(PlanScheduler(plan, **BETAS), latents)

    def test_files_that_cannot_run_are_refused_in_one_line(self):
        for what, text in bad_plans():
            (self.folder / "bad.json").write_text(text)
            with self.subTest(what), self.assertRaisesRegex(ValueError, "^PlanScheduler: .*$"):
                PlanScheduler(str(self.folder / "bad.json"))

    def test_what_does_not_fit_is_refused(self):
        flow = {"format": "epd-plan", "version": 1, "clock": "flow", "times": [1], "grid": [0], "instructions": []}
        for settings, message in (
            (dict(plan={"format": "x"}), "not an epd-plan"),
            (dict(plan=flow | {"version": 2}), "not an epd-plan of version 1"),
            (dict(plan=flow, prediction_type="epsilon"), "clock of flow"),
            (dict(plan=flow, prediction_type="magic"), "'magic'"),
            (dict(plan=flow, beta_schedule="sigmoid"), "'sigmoid'"),
        ):
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                PlanScheduler(**settings)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
