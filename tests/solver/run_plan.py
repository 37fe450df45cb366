"""Runs a plan.json of `sample --explain --json` on a denoiser, knowing nothing of any solver."""

import json

import numpy as np


def run_plan(plan, denoise, start):
    """The states at plan["times"], given the one at the first, for denoise(x, sigma) -> D(x; sigma)."""
    registers = {0: np.asarray(start, dtype=np.float64)}
    for instruction in plan["instructions"]:
        if "combine" in instruction:
            terms = zip(instruction["coefficients"], instruction["registers"])
            registers[instruction["combine"]] = sum(c * registers[r] for c, r in terms)
        else:
            for target, state, sigma in zip(instruction["evaluate"], instruction["states"], instruction["sigmas"]):
                registers[target] = denoise(registers[state], sigma)
    return np.stack([registers[r] for r in plan["grid"]])


def load_plan(path):
    with open(path, encoding="utf-8") as file:
        plan = json.load(file)
    assert (plan["format"], plan["version"]) == ("epd-plan", 1), f"{path}: not a plan of version 1"
    return plan
