"""Runs a plan file on NumPy arrays or torch tensors. The whole of what a plan means; made to be copied.

    plan = read_plan("plan.json")                    # sample --predictor_path 2 --explain --json > plan.json
    image = run_plan(plan, noise, denoise)           # noise [B, ...] of unit variance

denoise(x, level) returns the denoised images of x [K B, ...] at the noise levels [K B]: K parallel points in one call,
point after point. A state is x_0 + level e, or on the clock "flow" (1 - level) x_0 + level e.
"""

import hashlib
import json
import math

import numpy as np


def read_plan(path):
    """The plan of a JSON file, checked."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    plan = json.loads(text)
    if "sha256" in plan and plan["sha256"] != hashlib.sha256(text[: text.rfind(',\n  "sha256"')].encode()).hexdigest():
        raise ValueError(f"{path}: damaged, or edited (then take its sha256 out)")
    if plan.get("format") != "epd-plan" or plan.get("version") != 1:
        raise ValueError(f"{path}: not an epd-plan of version 1")
    known = {0, plan.get("mean", 0)}
    for n, step in enumerate(plan["instructions"]):
        if "combine" in step:
            inputs, numbers, outputs = step["registers"], step["coefficients"], [step["combine"]]
        else:
            inputs, numbers, outputs = step["states"], step["sigmas"], step["evaluate"]
        if not inputs or len(inputs) != len(numbers) or ("evaluate" in step and len(inputs) != len(outputs)):
            raise ValueError(f"{path}: instruction {n}: its lists are empty or of different lengths")
        if not all(math.isfinite(number) and ("combine" in step or number > 0) for number in numbers):
            raise ValueError(f"{path}: instruction {n}: a number is not finite, or a level not positive")
        if not known.issuperset(inputs) or not known.isdisjoint(outputs):
            raise ValueError(f"{path}: instruction {n} uses a register before it is defined, or defines one twice")
        known.update(outputs)
    return plan


def run_plan(plan, noise, denoise, mean=None, inters=None):
    """The image that the plan makes of `noise`; `inters`, a list, gets the states at the times of the plan.

    `mean` is the mean of the data, of the noise's shape, for a plan that begins with it.
    """
    cat = np.concatenate if isinstance(noise, np.ndarray) else __import__("torch").cat
    registers = {0: plan["times"][0] * noise}
    if "mean" in plan:
        registers[plan["mean"]] = mean + 0 * noise
    for step in plan["instructions"]:
        if "combine" in step:  # a weighted sum of registers
            terms = zip(step["coefficients"], step["registers"])
            registers[step["combine"]] = sum(coefficient * registers[source] for coefficient, source in terms)
        else:  # one parallel evaluation of the network
            x = cat([registers[state] for state in step["states"]])
            levels = cat([0 * noise.reshape(len(noise), -1)[:, 0] + level for level in step["sigmas"]])
            images = denoise(x, levels).reshape(len(step["states"]), *noise.shape)
            registers.update(zip(step["evaluate"], images))
    if inters is not None:
        inters.extend(registers[point] for point in plan["grid"])
    return registers[plan["grid"][-1]]
