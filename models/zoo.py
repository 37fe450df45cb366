"""Learned solvers of other projects as predictors of kind ns: their loops, followed on rows of coefficients.

Every solver whose steps are weighted sums makes states that are sums over x_0 = x(t_0), the images denoised so far
(Shaul et al. 2024, arXiv 2403.01329, section 3) and, of an SDE, the noise drawn so far. Numbers stay as their own
programs have them: learned tables and noise levels in float32; the rows are float64.
"""

import ast
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import grids
from safe_load import Record
from state_dict import state_of

Row = Any  # np.ndarray [1 + images + draws] in float64: the shares of x_0, each denoised image and each draw of noise


class Run:
    """A run in global form as it is made. Its levels are sigma, or s of a flow model: x = (1 - s) x_0 + s e."""

    def __init__(self, t_0: float, images: int, draws: int = 0):
        self.t_0, self.images, self.draws = float(t_0), images, draws
        self.points: list[dict[str, Any]] = []
        self.stages = self.drawn = 0

    def unit(self, index: int) -> Row:
        return np.eye(1 + self.images + self.draws)[index]

    def noise(self) -> Row:
        self.drawn += 1
        return self.unit(self.images + self.drawn)

    def point(self, state: Row, sigma: float, known: int) -> dict[str, Any]:
        noise = state[1 + self.images :][: self.drawn]
        numbers = [float(f"{number:.12g}") for number in (sigma, *state[: 1 + known], *noise)]  # made from float32
        point = {"sigma": numbers[0], "start": numbers[1], "weights": numbers[2 : 2 + known]}
        return point | ({"noise": numbers[2 + known :]} if self.drawn else {})

    def denoise(self, *points: tuple[Row, float]) -> list[Row]:
        """D(state; sigma) of each point, all in one stage."""
        known = len(self.points)
        self.points += [{"stage": self.stages} | self.point(state, sigma, known) for state, sigma in points]
        self.stages += 1
        return [self.unit(1 + known + k) for k in range(len(points))]

    def end(self, state: Row, sigma: float) -> dict[str, Any]:
        assert (len(self.points), self.drawn) == (self.images, self.draws)
        return {"t_0": self.t_0, "points": self.points, "end": self.point(state, sigma, self.images)}


def dyweight(weights: Tensor, scales: Tensor, grid: Tensor, afs: bool = False, flow: bool = False) -> dict[str, Any]:
    """x' = x + (T' - t) sum_j w_j d_j and t' = t + (sum_j w_j)(T' - t), the network told s t (arXiv 2603.11607)."""
    run = Run(grid[0], len(grid) - 1 - afs)
    x, t, directions = run.unit(0), grid[0], []
    for n, target in enumerate(grid[1:]):
        if afs and n == 0:
            directions.append(x / np.sqrt(1 + float(t) ** 2))
        else:
            told = (scales[n - afs] * t).abs()
            [denoised] = run.denoise((x, told))
            directions.append((x - denoised) / float(told if flow else t + 1e-8))
        row = weights[n, : n + 1]
        x = x + float(target - t) * sum(w * d for w, d in zip(row.tolist(), directions))
        t = t + row.sum() * (target - t)
    return run.end(x, grid[-1])


def adasde(table: dict[str, Tensor], grid: Tensor, afs: bool) -> dict[str, Any]:
    """Midpoint steps of an SDE: noise lifts x from t to t_hat = (1 + gamma) t before each but the first (2510.23285).

    x_k = x_hat + (t_k - t_hat) d(x_hat; t_hat), t_k = t'^r_k t_hat^(1 - r_k), d_k = (x_k - D(x_k; s_k t_k)) / t_k, and
    x' = x_hat + (t' - t_hat) sum_k w_k o_k d_k. `table` has r, w, o, s and gamma as [steps, points], in float32.
    """
    steps, points = table["r"].shape
    gammas = (table["gamma"] * table["w"]).sum(1)
    noisy = [n > 0 and bool(gamma > 0) for n, gamma in enumerate(gammas)]
    run = Run(grid[0], steps * (1 + points) - afs, sum(noisy))
    x = run.unit(0)
    for n, (t, t_next) in enumerate(zip(grid[:-1], grid[1:])):
        t_hat = (1 + gammas[n]) * t if noisy[n] else t
        if noisy[n]:
            x = x + float((t_hat**2 - t**2).sqrt()) * run.noise()
        if afs and n == 0:
            d = x / float((1 + t_hat**2).sqrt())
        else:
            [denoised] = run.denoise((x, t_hat))
            d = (x - denoised) / float(t_hat)
        middles = [t_next**r * t_hat ** (1 - r) for r in table["r"][n]]
        states = [x + float(t_mid - t_hat) * d for t_mid in middles]
        images = run.denoise(*((state, s * t_mid) for state, s, t_mid in zip(states, table["s"][n], middles)))
        for k, (state, image) in enumerate(zip(states, images)):
            share = table["w"][n, k] * table["o"][n, k] * (t_next - t_hat)
            x = x + float(share) * (state - image) / float(middles[k])
    return run.end(x, grid[-1])


def adams(coefficients: Tensor, values: list[Row]) -> Row:
    """sum_j<i c_j v_j + (1 - sum_j<i c_j) v_i over the values v_0 to v_i."""
    shares = [*coefficients[: len(values) - 1].tolist(), float(1 - coefficients[: len(values) - 1].sum())]
    return sum(c * v for c, v in zip(shares, values))


def neuralsolver_flow(deltas: Tensor, coefficients: Tensor) -> dict[str, Any]:
    """x' = x - dt adams(v), from s = 1 on (Wang et al. 2025, arXiv 2505.21114)."""
    run = Run(1, len(deltas))
    x, s, velocities = run.unit(0), torch.tensor(1.0), []
    for n, delta in enumerate(deltas):
        [denoised] = run.denoise((x, s))
        velocities.append((x - denoised) / float(s))
        x = x - float(delta) * adams(coefficients[n], velocities)
        s = s - delta
    return run.end(x, 0)


def neuralsolver_vp(deltas: Tensor, coefficients: Tensor) -> dict[str, Any]:
    """z' = (sigma' / sigma) z + sigma' (lambda' - lambda) adams(x_0) on z = alpha x_0 + sigma e of a VP process.

    alpha and sigma are those of its continuous time, lambda = alpha / sigma; the network is told the whole step below,
    1000 t, of the discrete process with betas from 1e-4 to 0.02. Here a state is y = z sqrt(1 + sigma_k^2).
    """
    levels = grids.sigmas_of(grids.linear_betas(1e-4, 0.02))
    t, steps = torch.tensor(0.999), []
    for n, delta in enumerate(deltas):
        steps.append(int(t * 1000))
        if n + 1 < len(deltas):
            t = (t - delta).clamp_min(0)
    run = Run(levels[steps[0]], len(deltas))
    z, t, images = run.unit(0) / float(levels[steps[0]]), torch.tensor(0.999), []
    for n, delta in enumerate(deltas):
        level = float(levels[steps[n]])
        y = z * np.sqrt(1 + level**2)
        [denoised] = run.denoise((y, level))
        (alpha, sigma), (alpha_next, sigma_next) = vp_scales(t), vp_scales(t - delta)
        images.append((z - sigma * (y - denoised) / level) / alpha)
        change = sigma_next * (alpha_next / sigma_next - alpha / sigma)
        z = sigma_next / sigma * z + change * adams(coefficients[n], images)
        t = (t - delta).clamp_min(0)
    return run.end(z, sigma_next / alpha_next)


def vp_scales(t: Tensor) -> tuple[float, float]:
    """alpha and sigma of the VP process with beta from 0.1 to 20."""
    t = t.clamp(1e-3, 1)
    integral = 0.5 * 19.9 * t**2 + 0.1 * t
    return float(torch.exp(-0.5 * integral)), float((1 - torch.exp(-integral)).sqrt())


# What each dataset's model denoises: channels, resolution, labels, and the range of its levels.
LATENT_TIME = {
    "lsun_bedroom_ldm": grids.LatentTime(0.0015, 0.0195),
    "ms_coco": grids.LatentTime(0.00085, 0.012),
}
STATES = {
    "cifar10": (3, 32, 0, 0.002, 80.0),
    "ffhq": (3, 64, 0, 0.002, 80.0),
    "afhqv2": (3, 64, 0, 0.002, 80.0),
    "imagenet64": (3, 64, 1000, 0.002, 80.0),
    "lsun_bedroom": (3, 256, 0, 0.002, 80.0),
    "lsun_bedroom_ldm": (3, 64, 0, *LATENT_TIME["lsun_bedroom_ldm"].bounds()),
    "ms_coco": (4, 64, 0, *LATENT_TIME["ms_coco"].bounds()),
    "dit": (4, 32, 1000, 0.01, 157.0),
    "sit": (4, 32, 1000, 0.001, 1.0),
    "flowdcn": (4, 32, 1000, 0.001, 1.0),
    "sd3": (16, 128, 0, 0.001, 1.0),
    "sd3-512": (16, 64, 0, 0.001, 1.0),
    "flux": (16, 128, 0, 0.001, 1.0),
    "flux-512": (16, 64, 0, 0.001, 1.0),
}


def grid_of(kind: str, dataset: str, num_steps: int, rho: float) -> Tensor:
    """The levels of a dataset's schedule."""
    if dataset not in STATES:
        raise ValueError(f"a predictor for {dataset!r}; known are {', '.join(STATES)}")
    bounds = STATES[dataset][3:]
    makers = {"polynomial": grids.polynomial, "time_uniform": grids.time_uniform}
    if dataset in LATENT_TIME:
        makers["discrete"] = LATENT_TIME[dataset].discrete
    if kind not in makers:
        raise ValueError(f"schedule {kind!r} for {dataset}: {', '.join(makers)} are known")
    return makers[kind](num_steps, *bounds, rho)


def predictor(
    dataset: str,
    plan: dict[str, Any],
    source: str,
    schedule: tuple[str, float] = ("flowmatch", 1.0),
    afs: bool = False,
    guidance: tuple[str | None, float | None] = (None, None),
) -> dict[str, Any]:
    """A predictor.json of kind ns."""
    channels, resolution, label_dim, low, high = STATES[dataset]
    stages = [point["stage"] for point in plan["points"]]
    return {
        "format": "epd-predictor",
        "version": 1,
        "kind": "ns",
        "dataset_name": dataset,
        "resolution": resolution,
        "channels": channels,
        "label_dim": label_dim,
        "num_steps": stages[-1] + 2 + afs,
        "num_points": max(map(stages.count, stages)),
        "schedule": {"type": schedule[0], "rho": schedule[1], "sigma_min": low, "sigma_max": high},
        "afs": afs,
        "guidance_type": guidance[0],
        "guidance_rate": guidance[1],
        "plan": plan,
        "source": source,
    }


Entries = dict[str, dict[str, Any]]  # predictors by PROJECT/DATASET-NFE


def dyweight_pickle(content: dict[str, Record], source: str) -> Entries:
    """A snapshot of DyWeight: {predictor, loss_fn}."""
    learned, loss = content["predictor"], content["loss_fn"].state
    dataset, schedule, afs = loss["dataset_name"], (loss["schedule_type"], loss["schedule_rho"]), learned.state["afs"]
    numbers = state_of(learned)
    scales = numbers.get("t_scale", torch.ones(learned.state["num_steps"] - 1 - afs))
    grid = grid_of(schedule[0], dataset, learned.state["num_steps"], schedule[1])
    plan = dyweight(numbers["hybrid_weights"] * numbers["mask"], scales, grid, afs)
    kind = learned.state["guidance_type"]
    guidance = (kind, learned.state["guidance_rate"] if kind else None)
    nfe = len(plan["points"]) * (2 if kind == "cfg" else 1)
    return {f"dyweight/{dataset}-{nfe}": predictor(dataset, plan, source, schedule, afs, guidance)}


def adasde_table(learned: Record) -> dict[str, Tensor]:
    """The numbers of AdaSDE's steps from its raw parameters."""
    options, raw = learned.state, state_of(learned)

    def around_one(name: str) -> Tensor:
        return 1 + min(options[name], 0.99) * torch.tanh(raw[f"{name}_params"] / 2)

    table = {"r": torch.sigmoid(raw["r_params"]), "w": torch.softmax(raw["weight_s"], -1)}
    table |= {"o": around_one("scale_dir"), "s": around_one("scale_time"), "gamma": torch.zeros_like(table["r"])}
    if options["fcn"]:
        table["o"][-1] = 1
    if options["gamma"]:
        share = torch.sigmoid((raw["gamma_params"] + 2 * math.log(0.6 / 0.4)) / 2)
        table["gamma"] = options["gamma_min"] + (options["gamma"] - options["gamma_min"]) * share
    return table


def adasde_pickle(learned: Record, source: str) -> Entries:
    """A snapshot of AdaSDE; the runs without noise are its ablation, `-ode`."""
    options = learned.state
    dataset, schedule = options["dataset_name"], (options["schedule_type"], options["schedule_rho"])
    afs, kind = options["afs"], options["guidance_type"]
    plan = adasde(adasde_table(learned), grid_of(schedule[0], dataset, options["num_steps"], schedule[1]), afs)
    guidance = (kind, options["guidance_rate"] if kind else None)
    nfe = (2 * (options["num_steps"] - 1) - afs) * (2 if kind == "cfg" else 1)
    name = f"adasde/{dataset}-{nfe}{'' if options['gamma'] else '-ode'}"
    return {name: predictor(dataset, plan, source, schedule, afs, guidance)}


def dyweight_flux(content: dict[str, Any], source: str) -> Entries:
    """DyWeight for FLUX.1-dev at 512x512, so with 32x32 tokens."""
    weights, scales = content["dyweight_weights_raw"], content["dyweight_t_scales"]
    plan = dyweight(weights, scales, grids.flow_to_zero(len(weights), 32 * 32), flow=True)
    return {f"dyweight/flux-512-{len(weights)}": predictor("flux-512", plan, source)}


def neuralsolver_source(text: str, source: str) -> Entries:
    """The tables that a source file of NeuralSolver assigns to names like FM_DATA_SIT; nothing of it is run."""
    makers = {
        "FM_DATA": ("flowdcn", neuralsolver_flow),
        "FM_DATA_SIT": ("sit", neuralsolver_flow),
        "DDPM_DATA": ("dit", neuralsolver_vp),
    }
    entries = {}
    for node in ast.parse(text).body:
        name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else ""
        if name not in makers or not isinstance(node.value, ast.Call):
            continue
        dataset, follow = makers[name]
        for step in node.value.keywords:
            table = {item.arg: torch.tensor(ast.literal_eval(item.value)) for item in step.value.keywords}
            plan = follow(table["timedeltas"], table["coeffs"])
            schedule = ("flowmatch", 1.0) if follow is neuralsolver_flow else ("discrete", 1.0)
            entries[f"neuralsolver/{dataset}-{len(plan['points'])}"] = predictor(dataset, plan, source, schedule)
    if not entries:
        raise ValueError("holds no table of NeuralSolver")
    return entries
