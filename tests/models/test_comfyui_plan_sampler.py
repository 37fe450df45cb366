"""The ComfyUI node gives the images of plan_runner.py: on a stub of ComfyUI, and on ComfyUI itself where it is found.

python test_comfyui_plan_sampler.py             with EPD_COMFYUI: a checkout of ComfyUI whose requirements are met
"""

import copy
import importlib
import json
import os
import sys
import tempfile
import types
import unittest
from pathlib import Path

import torch

from zoo_support import ZOO, bad_plans, discrete, edm, flow, noise, plan_of

# isort: split
import plan_runner
from plan_runner import run_plan

COMFYUI = os.environ.get("EPD_COMFYUI")


class StubInpaint:
    """What comfy.samplers.KSamplerX0Inpaint does without a mask."""

    def __init__(self, model, sigmas):
        self.model = model

    def __call__(self, x, sigma, denoise_mask, model_options=None, seed=None):
        return self.model(x, sigma, model_options=model_options, seed=seed)


def comfy():
    """ComfyUI's own modules, or stand-ins."""
    if COMFYUI:
        sys.path.insert(0, COMFYUI)
        sys.argv = [sys.argv[0], "--cpu"]
        importlib.import_module("comfy.options").enable_args_parsing()
        return importlib.import_module("comfy.samplers")
    package, samplers = types.ModuleType("comfy"), types.ModuleType("comfy.samplers")
    samplers.Sampler, samplers.KSamplerX0Inpaint, package.samplers = object, StubInpaint, samplers
    sys.modules |= {"comfy": package, "comfy.samplers": samplers}
    return samplers


arguments, SAMPLERS = sys.argv, comfy()
sys.argv = arguments
import comfyui_plan_sampler  # noqa: E402


def model_sampling(flow_model):
    """An object of the class that ComfyUI makes for a model."""
    if COMFYUI:
        kinds = importlib.import_module("comfy.model_sampling")
        bases = (
            (kinds.ModelSamplingDiscreteFlow, kinds.CONST) if flow_model else (kinds.ModelSamplingDiscrete, kinds.EPS)
        )
        return type("ModelSampling", bases, {})(None)
    return type("CONST" if flow_model else "EPS", (), {})()


def guider(denoise, flow_model):
    """ComfyUI's guider around a network, or as much of it as a sampler calls."""
    inner = types.SimpleNamespace(model_sampling=model_sampling(flow_model), process_latent_out=lambda x: x)
    if not COMFYUI:
        call = lambda x, sigma, model_options=None, seed=None: denoise(x, sigma)
        stub = types.SimpleNamespace(inner_model=inner, call=call)
        return type("Guider", (), {"inner_model": inner, "__call__": lambda self, *a, **k: stub.call(*a, **k)})()

    class Guider(SAMPLERS.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            return denoise(x, timestep)

    made = Guider(types.SimpleNamespace(model_options={}))
    made.inner_model, made.conds = inner, {}
    return made


def sampled(plan, denoise, flow_model, seen=None, **settings):
    sampler = comfyui_plan_sampler.PlanSampler(plan, **settings)
    callback = None if seen is None else lambda *step: seen.append(step)
    around, sigmas, latent = guider(denoise, flow_model), torch.tensor(plan["times"]), torch.zeros_like(noise())
    if COMFYUI:
        return around.inner_sample(noise(), latent, "cpu", sampler, sigmas, None, callback, True, 5)
    return sampler.sample(around, sigmas, {"model_options": {}, "seed": 5}, callback, noise(), latent)


def zoo_plan(name):
    return plan_of(json.loads((ZOO / f"{name}.json").read_text()))


class Node(unittest.TestCase):
    def assert_same(self, made, expected, tolerance=1e-5):
        self.assertLess(float((made - expected).abs().max() / expected.abs().max()), tolerance)

    def test_plans_give_the_images_of_the_runner(self):
        for name, denoise in (("dyweight/cifar10-5", edm), ("neuralsolver/dit-6", discrete)):
            plan, seen = zoo_plan(name), []
            with self.subTest(name):
                self.assert_same(sampled(plan, denoise, False, seen), run_plan(plan, noise(), denoise))
                total = sum(len(step.get("states", [])) for step in plan["instructions"])
                self.assertEqual([step[0] for step in seen], list(range(total)))
                self.assertTrue(all(step[3] == total for step in seen))

    def test_the_noise_of_a_plan_follows_from_the_seed_after_the_start(self):
        plan, generator = zoo_plan("adasde/cifar10-7"), torch.Generator().manual_seed(5)
        draw = lambda: torch.randn(noise().shape, generator=generator)
        draw()
        expected = run_plan(plan, noise(), edm, draw=draw)
        self.assert_same(sampled(plan, edm, False), expected)
        self.assert_same(sampled(plan, edm, False), expected)

    def test_flow_models_run_plans_of_either_clock(self):
        for name in ("dyweight/flux-512-5", "neuralsolver/sit-5", "neuralsolver/flowdcn-8"):
            plan = zoo_plan(name)
            with self.subTest(name):
                self.assert_same(sampled(plan, flow, True), run_plan(plan, noise(), flow))

        def on_sigma(y, sigma):
            scale = 1 / (1 + sigma.reshape(-1, 1, 1, 1))
            return flow(y * scale, sigma / (1 + sigma))

        plan = zoo_plan("dyweight/cifar10-7")
        self.assert_same(sampled(plan, flow, True), run_plan(plan, noise(), on_sigma))

    def test_parallel_points_come_in_one_batch_on_demand(self):
        point = {"sigma": 0.6, "start": 0.6, "weights": [0.4]}
        points = [{"stage": 0, "sigma": 1.0, "start": 1.0, "weights": []}, {"stage": 1} | point]
        points.append({"stage": 1} | point | {"sigma": 0.3})
        learned = {"t_0": 1.0, "points": points, "end": {"sigma": 0.0, "start": 0.0, "weights": [-0.2, 0.5, 0.7]}}
        plan, calls = plan_of({"plan": learned, "schedule": {"type": "flowmatch"}}), []

        def counting(x, level):
            calls.append(len(x))
            return flow(x, level)

        one_by_one = sampled(plan, counting, True)
        self.assertEqual(calls, [1, 1, 1])
        calls.clear()
        self.assert_same(sampled(plan, counting, True, parallel=True), one_by_one)
        self.assertEqual(calls, [1, 2])

    def test_the_node_gives_a_sampler_and_its_sigmas(self):
        with tempfile.TemporaryDirectory() as folder:
            file, plan = Path(folder) / "plan.json", zoo_plan("dyweight/cifar10-3")
            file.write_text(json.dumps(plan))
            node = comfyui_plan_sampler.NODE_CLASS_MAPPINGS["PlanSampler"]
            self.assertEqual(list(node.INPUT_TYPES()["required"]), ["plan", "parallel"])
            sampler, sigmas = getattr(node(), node.FUNCTION)(str(file), False)
            self.assertIsInstance(sampler, SAMPLERS.Sampler)
            self.assertEqual(sigmas.tolist(), torch.tensor(plan["times"]).tolist())
            self.assertGreater(node.IS_CHANGED(str(file), False), 0)

    def test_files_that_cannot_run_are_refused_in_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "plan.json"
            for what, text in bad_plans():
                file.write_text(text)
                for read in (comfyui_plan_sampler.read_plan, plan_runner.read_plan):
                    with self.subTest(f"{what} {read.__module__}"), self.assertRaises(ValueError) as raised:
                        read(file)
                    self.assertTrue(str(raised.exception).startswith(f"{file}: "))
                    self.assertNotIn("\n", str(raised.exception))

    def test_what_cannot_run_is_refused(self):
        with self.assertRaisesRegex(ValueError, "for flow models"):
            sampled(zoo_plan("neuralsolver/sit-5"), flow, False)
        with tempfile.TemporaryDirectory() as folder:
            file, plan = Path(folder) / "plan.json", zoo_plan("dyweight/cifar10-3")
            for change, message in (({"version": 2}, "version 1"), ({"mean": 1}, "mean of its own data")):
                file.write_text(json.dumps(copy.deepcopy(plan) | change))
                with self.assertRaisesRegex(ValueError, message):
                    comfyui_plan_sampler.read_plan(file)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
