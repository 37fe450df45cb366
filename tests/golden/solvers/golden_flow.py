"""Flow-matching schedulers of diffusers on a closed flow: python golden_flow.py > flow.json

Needs diffusers (made with 0.42) and torch. The data are y ~ 1/2 N(a + mu, s^2) + 1/2 N(a - mu, s^2) and the network is
their exact velocity (closed_denoisers.h, Mixture::velocity). The schedulers compute in float32.
"""

import json

import diffusers
import torch

A, MU, S = 0.1, 0.7, 0.25
START = [-1.7, -0.6, -0.05, 0.3, 0.9, 2.2]


def velocity(x, t):
    """(x - E[y | x]) / t for x = (1 - t) y + t e."""
    c = 1 - t
    v = c**2 * S**2 + t**2
    gap = x - c * A
    denoised = A + (c * S**2 * gap + t**2 * MU * torch.tanh(c * MU * gap / v)) / v
    return (x - denoised) / t


def run(kind, shift, steps):
    scheduler = getattr(diffusers, kind)(shift=shift)
    scheduler.set_timesteps(steps)
    x, states = torch.tensor(START), [START]
    for t in scheduler.timesteps:
        level = (t / scheduler.config.num_train_timesteps).double()
        out = velocity(x.double(), level).float()
        x = scheduler.step(out, t, x).prev_sample
        states.append(x.double().tolist())
    levels = sorted({float(level) for level in scheduler.sigmas.double()}, reverse=True)
    if "Heun" in kind:  # every second state is Euler's guess
        states = states[:-1:2] + states[-1:]
    return {
        "solver": "heun" if "Heun" in kind else "euler",
        "shift": shift,
        "sigma_min": float(scheduler.sigma_min),
        "times": levels,
        "states": states,
    }


def main():
    kinds = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
    cases = [run(kind, shift, steps) for kind in kinds for shift in (1.0, 3.0) for steps in (2, 5, 9)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    print(f'{{"diffusers": "{diffusers.__version__}", "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
