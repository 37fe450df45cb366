"""Runs a plan file on NumPy arrays or torch tensors. The whole of what a plan means; made to be copied.

    plan = read_plan("plan.json")                    # sample --predictor_path 2 --explain --json > plan.json
    image = run_plan(plan, noise, denoise)           # noise [B, ...] of unit variance

denoise(x, level) returns the denoised images of x [K B, ...] at the noise levels [K B]: K parallel points in one call,
point after point. A state is x_0 + level e, or on the clock "flow" (1 - level) x_0 + level e.
"""

import hashlib
import json

import numpy as np


def read_plan(path):
    """The plan of a JSON file; ValueError for what is no plan that can run."""
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.loads(text := file.read())
        if plan.get("sha256") not in (None, hashlib.sha256(text.rpartition(',\n  "sha256"')[0].encode()).hexdigest()):
            raise ValueError("damaged, or edited (then take its sha256 out)")
        if plan["format"] != "epd-plan" or plan["version"] != 1 or not 0 < plan["times"][0] < np.inf:
            raise ValueError("not an epd-plan of version 1 that begins at a positive level")
        known = {0, plan.get("mean", 0)}
        for n, step in enumerate(plan["instructions"]):
            outputs = step["evaluate"] if "evaluate" in step else [step["combine" if "combine" in step else "noise"]]
            inputs = step.get("states", step.get("registers", []))
            numbers = step.get("sigmas", step.get("coefficients", []))
            count = 0 if "noise" in step else len(outputs) if "evaluate" in step else len(inputs) or 1
            fits = len(inputs) == len(numbers) == count and 0 < len(outputs) == len({*outputs})
            sound = all(abs(number) < np.inf and ("combine" in step or number > 0) for number in numbers)
            if not (fits and sound and known.issuperset(inputs) and known.isdisjoint(outputs)):
                raise ValueError(f"instruction {n}: other lengths, a bad number, or a register out of its order")
            known.update(outputs)
        if plan["grid"][-1] not in known:
            raise ValueError("its last register is never defined")
        return plan
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a plan that can run: {error!r}") from error


def run_plan(plan, noise, denoise, mean=None, inters=None, draw=None):
    """The image that the plan makes of `noise`. `inters`, a list, gets the states at the times of the plan.
    Where the plan asks for them, of the noise's shape: `mean`, the mean of the data, and draw(), fresh noise."""
    cat = np.concatenate if isinstance(noise, np.ndarray) else __import__("torch").cat
    registers = {0: plan["times"][0] * noise, plan.get("mean"): mean}
    for step in plan["instructions"]:
        if "combine" in step:  # a weighted sum of registers
            registers[step["combine"]] = sum(c * registers[r] for c, r in zip(step["coefficients"], step["registers"]))
        elif "noise" in step:
            registers[step["noise"]] = draw()
        else:  # one parallel evaluation of the network
            x = cat([registers[state] for state in step["states"]])
            levels = cat([0 * noise.reshape(len(noise), -1)[:, 0] + level for level in step["sigmas"]])
            registers.update(zip(step["evaluate"], denoise(x, levels).reshape(-1, *noise.shape)))
    if inters is not None:
        inters.extend(registers[point] for point in plan["grid"])
    return registers[plan["grid"][-1]]
