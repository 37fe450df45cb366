"""Trajectories of diffusers' own schedulers on a closed denoiser: python golden_diffusers.py > diffusers.json

Needs diffusers (made with 0.42) and torch. The data are those of golden_flow.py, and the network is their exact denoiser at
the scheduler's own noise levels, in whatever form the scheduler asks for: what differs from our plans is the solver alone.
"""

import json
import warnings

import numpy as np
import torch

A, MU, S = 0.1, 0.7, 0.25
START = np.array([[-1.7, -0.6, -0.05, 0.3, 0.9, 2.2]])  # [images, numbers]

VP = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING, TRAILING = VP | {"timestep_spacing": "leading", "steps_offset": 1}, VP | {"timestep_spacing": "trailing"}
LINSPACE = VP | {"timestep_spacing": "linspace"}
KARRAS, LAST = VP | {"use_karras_sigmas": True}, {"final_sigmas_type": "sigma_min"}
ZERO_SNR = TRAILING | {"rescale_betas_zero_snr": True}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
NOT_LOWER = {"lower_order_final": False}
JSON = ("max_order", "predict_x0", "lower_order_final")  # options with numbers and booleans
UNSCALED = ("EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler")  # x_0 + sigma e, not VP's

# Scheduler, its settings, its steps, our options (with --sigmas of its levels).
ROWS = [
    ("DDIM", LEADING | {"clip_sample": False, "set_alpha_to_one": False}, 10, "--solver=euler"),
    ("DDIM", TRAILING | {"clip_sample": False}, 8, "--solver=euler"),
    ("DDIM", ZERO_SNR | {"clip_sample": False}, 10, "--solver=euler"),
    ("EulerDiscrete", LINSPACE, 9, "--solver=euler"),
    ("EulerDiscrete", LEADING, 10, "--solver=euler"),
    ("EulerDiscrete", TRAILING | LAST, 10, "--solver=euler"),
    ("EulerDiscrete", KARRAS, 10, "--solver=euler"),
    ("EulerDiscrete", ZERO_SNR, 10, "--solver=euler"),
    ("HeunDiscrete", LINSPACE, 7, "--solver=heun"),
    ("HeunDiscrete", LEADING, 7, "--solver=heun"),
    ("HeunDiscrete", KARRAS, 7, "--solver=heun"),
    ("KDPM2Discrete", TRAILING, 7, "--solver=dpm"),
    *(
        ("DPMSolverMultistep", grid | {"solver_order": order}, steps, f"--solver=dpmpp --max_order={order}")
        for order in (1, 2, 3)
        for grid, steps in ((LINSPACE, 9), (LEADING | LAST, 10), (TRAILING, 10), (KARRAS, 12))
    ),
    # Their Karras levels end at sigma_min by themselves, so that the last step has no length: but as a lower order.
    ("DPMSolverMultistep", KARRAS | LAST, 7, "--solver=dpmpp --max_order=2 --lower_order_final=False"),
    *(
        ("DPMSolverMultistep", grid | {"solver_order": 3}, 20, "--solver=dpmpp --max_order=3 --lower_order_final=False")
        for grid in (KARRAS, LINSPACE | LAST)
    ),
    ("DPMSolverMultistep", LINSPACE | LAST | NOT_LOWER, 6, "--solver=dpmpp --max_order=2 --lower_order_final=False"),
    ("DPMSolverMultistep", ZERO_SNR, 10, "--solver=dpmpp --max_order=2"),
    *(
        ("DPMSolverMultistep", LEADING | LAST | {"solver_order": order, "algorithm_type": "dpmsolver"}, 10,
         f"--solver=dpmpp --max_order={order} --predict_x0=False")
        for order in (2, 3)
    ),
    ("DPMSolverSinglestep", KARRAS | {"solver_order": 1}, 10, "--solver=euler"),
    *(
        ("UniPCMultistep", grid | {"solver_order": order, "solver_type": variant}, steps,
         f"--solver=unipc --max_order={order} --unipc_variant={variant}")
        for order in (1, 2, 3)
        for variant in ("bh1", "bh2")
        for grid, steps in ((LINSPACE, 9), (LEADING | LAST, 10), (KARRAS, 7))
        if variant == "bh2" or LAST.items() <= grid.items()  # to 0, bh1's B(h) is infinite, and their image not a number
    ),
    ("UniPCMultistep", TRAILING | LAST | {"solver_order": 3, "predict_x0": False}, 8,
     "--solver=unipc --max_order=3 --predict_x0=False"),
    ("UniPCMultistep", ZERO_SNR | {"solver_order": 3}, 10, "--solver=unipc --max_order=3"),
    ("UniPCMultistep", LINSPACE | NOT_LOWER | LAST, 7, "--solver=unipc --max_order=2 --lower_order_final=False"),
    *(
        ("DEISMultistep", grid | NOT_LOWER | {"solver_order": order}, 10,
         f"--solver=deis --deis_mode=logrho --max_order={order}")
        for order in (1, 2, 3)
        for grid in (LINSPACE, LEADING, KARRAS)
    ),
    ("FlowMatchEulerDiscrete", {"shift": 3.0}, 9, "--solver=euler"),
    ("FlowMatchHeunDiscrete", {"shift": 1.0}, 6, "--solver=heun"),
    *(
        ("DPMSolverMultistep", FLOW | {"solver_order": order}, 9, f"--solver=dpmpp --max_order={order}")
        for order in (1, 2, 3)
    ),
    *(
        ("UniPCMultistep", FLOW | {"solver_order": order}, 9, f"--solver=unipc --max_order={order}")
        for order in (1, 2, 3)
    ),
    *(
        ("DEISMultistep", FLOW | NOT_LOWER | {"solver_order": order}, 9,
         f"--solver=deis --deis_mode=logrho --max_order={order}")
        for order in (1, 2, 3)
    ),
]  # fmt: skip


def denoised(x, level, flow):
    """E[y | x] at x = y + level e, or on the flow's clock x = (1 - level) y + level e; in numpy or torch."""
    alpha = 1 - level if flow else 1
    variance, gap = alpha**2 * S**2 + level**2, x - alpha * A
    return A + (alpha * S**2 * gap + level**2 * MU * np.tanh(alpha * MU * gap / variance)) / variance


def output(x, level, form):
    """What a network that predicts `form` says of x = y + level e, or of a flow's state."""
    image = denoised(x, level, form == "flow_prediction")
    eps = (x - image) / level
    return {
        "epsilon": eps,
        "v_prediction": (eps - level * image) / (1 + level**2) ** 0.5,
        "sample": image,
        "flow_prediction": eps,
    }[form]


def trajectory(scheduler, steps, form):
    """The levels of a run, as EDM or the flow counts them, and the state at its end."""
    scheduler.set_timesteps(steps)
    kind = type(scheduler).__name__
    if hasattr(scheduler, "sigmas"):
        levels = scheduler.sigmas.double().numpy()
        count = len(scheduler.timesteps)
        told = np.array([scheduler.sigmas_interpol[i] if kind.startswith("KDPM2") and i % 2 else levels[i]
                         for i in range(count)], dtype=float)  # fmt: skip
        times = levels[np.r_[True, levels[1:] < levels[:-1]]]
    else:
        alphas = scheduler.alphas_cumprod.double().numpy().clip(2**-24)[scheduler.timesteps]
        alphas = np.append(alphas, float(scheduler.final_alpha_cumprod))
        times = (1 / alphas - 1) ** 0.5
        told = times[:-1]
    vp = not (form == "flow_prediction" or kind in UNSCALED)
    scale = lambda level: (1 + level**2) ** 0.5 if vp else 1  # from the scheduler's state to EDM's
    x = torch.from_numpy(START * times[0] / scale(times[0]))
    for t, level in zip(scheduler.timesteps, told):
        x = x.double()
        made = output(x.numpy() * scale(level), level, form)
        if kind in UNSCALED:
            scheduler.scale_model_input(x, t)
        x = scheduler.step(torch.from_numpy(made), t, x, return_dict=False)[0]
    return times, x.double().numpy() * scale(times[-1])


def options_of(words):
    """Command-line options as the goldens name them."""
    pairs = [word.removeprefix("--").split("=") for word in words.replace("unipc_variant", "variant").split()]
    return {name: json.loads(value.lower()) if name in JSON else value for name, value in pairs}


def cases():
    import diffusers  # only here: the test of models/plans reads the rest without it

    for name, settings, steps, options in ROWS:
        kind = getattr(diffusers, f"{name}Scheduler")
        forms = ["epsilon", "v_prediction", "sample"]
        if settings.get("rescale_betas_zero_snr"):  # at alpha 2^-12, noise says too little; DDIM's v is of alpha 0
            forms = forms[2:] if name == "DDIM" else forms[1:]
        is_flow = name.startswith("FlowMatch") or settings.get("use_flow_sigmas")
        for form in ["flow_prediction"] if is_flow else forms:
            asked = {} if name.startswith("FlowMatch") else {"prediction_type": form}
            try:
                times, end = trajectory(kind(**settings | asked), steps, form)
            except NotImplementedError:  # Heun's and KDPM2's of `sample`
                continue
            yield {"scheduler": name, "settings": settings, "steps": steps, "options": options_of(options), "prediction": form,
                   "times": times.tolist(), "end": end[0].tolist()}  # fmt: skip


def main():
    warnings.simplefilter("ignore")
    lines = ",\n".join(json.dumps(case) for case in cases())
    print(f'{{"cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
