"""A plan file as a sampler of ComfyUI. Copy this file into ComfyUI/custom_nodes/ and restart.

The node "Plan sampler" (sampling/custom_sampling/samplers) gives a SAMPLER and the SIGMAS that go with it, for
SamplerCustom and SamplerCustomAdvanced. The plan brings its own noise levels: the SIGMAS tell ComfyUI where it begins
and ends. A latent image that is not empty is noised to the plan's first level. `parallel` evaluates the points of a
step in one batch, which is faster where the GPU has room; with an inpainting mask they come one after another. A plan's
further noise follows from the seed.
"""

import hashlib
import json
import math
import os

import comfy.samplers
import torch


def read_plan(path):
    """The plan of a JSON file; ValueError for what is no plan that this node can run."""
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.loads(text := file.read())
        if plan.get("sha256") not in (None, hashlib.sha256(text.rpartition(',\n  "sha256"')[0].encode()).hexdigest()):
            raise ValueError("damaged, or edited (then take its sha256 out)")
        if "mean" in plan:
            raise ValueError("it begins with the mean of its own data, which this node does not have")
        if plan["format"] != "epd-plan" or plan["version"] != 1 or not 0 < plan["times"][0] < math.inf:
            raise ValueError("not an epd-plan of version 1 that begins at a positive level")
        known = {0, plan.get("mean", 0)}
        for n, step in enumerate(plan["instructions"]):
            outputs = step["evaluate"] if "evaluate" in step else [step["combine" if "combine" in step else "noise"]]
            inputs = step.get("states", step.get("registers", []))
            numbers = step.get("sigmas", step.get("coefficients", []))
            count = 0 if "noise" in step else len(outputs) if "evaluate" in step else len(inputs) or 1
            if not len(inputs) == len(numbers) == count or not outputs:
                raise ValueError(f"instruction {n}: lists that are empty or of different lengths")
            if not all(abs(number) < math.inf and ("combine" in step or number > 0) for number in numbers):
                raise ValueError(f"instruction {n}: a number is not finite, or a level not positive")
            if not known.issuperset(inputs) or not known.isdisjoint(outputs) or len({*outputs}) < len(outputs):
                raise ValueError(f"instruction {n} uses a register before it is defined, or defines one twice")
            known.update(outputs)
        if plan["grid"][-1] not in known:
            raise ValueError("its last register is never defined")
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a plan that can run: {error!r}") from error
    return plan


def runs_on_s(model_sampling):
    """Whether the model's levels are s of x = (1 - s) x_0 + s e (SD3, FLUX) instead of sigma."""
    return any(base.__name__ == "CONST" for base in type(model_sampling).__mro__)


class PlanSampler(comfy.samplers.Sampler):
    def __init__(self, plan, parallel=False):
        self.plan, self.parallel = plan, parallel

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        """The image of `noise`, whose variance is 1. Of `sigmas` nothing is used."""
        flow_clock = self.plan.get("clock", "edm") == "flow"
        to_s = runs_on_s(model_wrap.inner_model.model_sampling) and not flow_clock
        if flow_clock and not runs_on_s(model_wrap.inner_model.model_sampling):
            raise ValueError("Plan sampler: the plan is for flow models (SD3, FLUX), and this model is none")
        model = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        model.latent_image, model.noise = latent_image, noise

        def denoise(x, level):
            if to_s:  # sigma = s / (1 - s), and the model's state is (1 - s) times the plan's
                x, level = x / (1 + level.reshape(-1, *[1] * (x.ndim - 1))), level / (1 + level)
            return model(x, level, denoise_mask=denoise_mask, **extra_args)

        first = self.plan["times"][0]
        start = first * noise
        if latent_image is not None:
            start = start + (1 - first if flow_clock else 1) * latent_image
        generator = torch.Generator().manual_seed(extra_args.get("seed") or 0)
        draw = lambda: torch.randn(noise.shape, generator=generator).to(noise)
        draw()  # the start, as ComfyUI draws it
        return self.run(start, denoise, self.parallel and denoise_mask is None, callback, draw)

    def run(self, start, denoise, parallel, callback, draw):
        registers, done = {0: start}, 0
        total = sum(len(step["states"]) for step in self.plan["instructions"] if "evaluate" in step)
        for step in self.plan["instructions"]:
            if "combine" in step:
                terms = zip(step["coefficients"], step["registers"])
                registers[step["combine"]] = sum(coefficient * registers[source] for coefficient, source in terms)
                continue
            if "noise" in step:
                registers[step["noise"]] = draw()
                continue
            states = [registers[state] for state in step["states"]]
            levels = [start.new_full([len(start)], level) for level in step["sigmas"]]
            if parallel:
                images = denoise(torch.cat(states), torch.cat(levels)).chunk(len(states))
            else:
                images = [denoise(state, level) for state, level in zip(states, levels)]
            for state, register, image in zip(states, step["evaluate"], images):
                registers[register] = image
                if callback is not None:
                    callback(done, image, state, total)
                done += 1
        return registers[self.plan["grid"][-1]]


class PlanSamplerNode:
    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    FUNCTION = "make"
    CATEGORY = "sampling/custom_sampling/samplers"

    @classmethod
    def INPUT_TYPES(cls):
        parallel = ("BOOLEAN", {"default": False})
        return {"required": {"plan": ("STRING", {"default": "plan.json"}), "parallel": parallel}}

    @classmethod
    def IS_CHANGED(cls, plan, parallel):
        return os.path.getmtime(plan)

    def make(self, plan, parallel):
        content = read_plan(plan)
        return PlanSampler(content, parallel), torch.tensor(content["times"], dtype=torch.float32)


NODE_CLASS_MAPPINGS = {"PlanSampler": PlanSamplerNode}
NODE_DISPLAY_NAME_MAPPINGS = {"PlanSampler": "Plan sampler"}
