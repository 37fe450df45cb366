"""UniPC and DEIS."""

import math

import numpy as np
import torch

from golden_baselines import baseline_case, without_thresholding
from golden_harness import LARGE, SCHEDULES, SMALL, case, flat, grid, latents_of, public, run_sampler


class LastStepUncorrected:
    """Never corrects the last step, as the public sampler does whenever num_steps - 1 >= max_order."""

    def __enter__(self):
        self.update = update = public.ds.solvers.unipc_update

        def without_corrector(x, models, times, t, order, use_corrector=True, **options):
            return update(x, models, times, t, order, use_corrector=use_corrector and t > self.last, **options)

        public.ds.solvers.unipc_update = without_corrector
        return self

    def __init__(self, last):
        self.last = last

    def __exit__(self, *_):
        public.ds.solvers.unipc_update = self.update


def unipc():
    cases = []

    def add(num_steps, afs, max_order, **options):
        arguments = (len(cases), public.ds, "unipc_sampler", "unipc", num_steps, afs)
        if num_steps - 1 < max_order:
            quirk = "corrects the last step too: one evaluation more"
            cases.append(baseline_case(*arguments, quirk=quirk, max_order=max_order, **options))
        with LastStepUncorrected(last=0.0021):
            cases.append(baseline_case(*arguments, max_order=max_order, **options))

    with without_thresholding():
        for max_order in (1, 2, 3):
            for variant in ("bh1", "bh2"):
                for predict_x0 in (True, False):
                    for lower in (True, False) if max_order > 1 else (True,):
                        add(6, False, max_order, variant=variant, predict_x0=predict_x0, lower_order_final=lower)
        for variant in ("bh1", "bh2"):
            for predict_x0 in (True, False):
                add(4, True, 3, variant=variant, predict_x0=predict_x0, lower_order_final=True)
        for predict_x0 in (True, False):
            add(3, False, 3, variant="bh2", predict_x0=predict_x0, lower_order_final=True)
        add(6, True, 3, labels=[1, 2], shape=LARGE, variant="bh1", predict_x0=True, lower_order_final=True)
    add(
        5,
        False,
        3,
        labels=[1, 2],
        shape=LARGE,
        variant="bh2",
        predict_x0=True,
        lower_order_final=True,
        thresholding=True,
    )
    return cases


def exact_tab_coefficients(t_steps, max_order):
    """int L_j(u(sigma)) dsigma by Gauss-Legendre in u: what the public equidistant sum tends to."""
    low, high = math.log1p(0.002**2), math.log1p(80.0**2)
    beta_d = 2 * (low / 1e-3 - high) / (1e-3 - 1)
    beta_min = high - beta_d / 2
    u = [(math.sqrt(beta_min**2 + 2 * beta_d * math.log1p(t * t)) - beta_min) / beta_d for t in t_steps]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    rows = []
    for i in range(len(u) - 1):
        order = min(i + 1, max_order)
        past = [u[i - k] for k in range(order)]
        row = []
        for j in range(order):
            total = 0.0
            edges = np.linspace(u[i], u[i + 1], 65)
            for a, b in zip(edges[:-1], edges[1:]):
                x = (a + b) / 2 + (b - a) / 2 * nodes
                log_v = beta_d * x**2 / 2 + beta_min * x
                slope = (beta_d * x + beta_min) * np.exp(log_v) / (2 * np.sqrt(np.expm1(log_v)))
                basis = np.prod([(x - past[k]) / (past[j] - past[k]) for k in range(order) if k != j], axis=0)
                total += (b - a) / 2 * np.sum(weights * slope * basis)
            row.append(float(total))
        rows.append(row)
    return rows


def deis_case(index, mode, num_steps, max_order, afs):
    kind, rho = SCHEDULES[index % 3]
    t_steps = grid(num_steps, kind, rho)
    latents = latents_of(SMALL, 500 + index)
    euler = [[b - a] for a, b in zip(t_steps[:-1], t_steps[1:])]
    # The public rhoab list counts history points where the sampler counts nodes: q - 1 there is order q.
    rows = public.ds.solver_utils.get_deis_coeff_list(
        torch.tensor(t_steps), max_order - (mode == "rhoab"), deis_mode=mode
    )
    rows = [[float(torch.as_tensor(c).detach()) for c in row] for row in rows]
    used = (
        exact_tab_coefficients(t_steps, max_order) if mode == "tab" else [row or step for row, step in zip(rows, euler)]
    )
    used[0] = euler[0]

    def run(coefficients):
        return run_sampler(
            public.ds.solvers, "deis_sampler", t_steps, latents, afs=afs, max_order=max_order, coeff_list=coefficients
        )

    states, calls = run(used)
    more = {"coefficients": used} | (
        {"public_coefficients": rows, "public_end": flat(run(rows)[0][-1])} if mode == "tab" else {}
    )
    options = {"solver": "deis", "deis_mode": mode, "num_steps": num_steps, "max_order": max_order, "afs": afs}
    options |= {"schedule_type": kind, "schedule_rho": rho}
    return case(
        f"deis {mode} order {max_order} N={num_steps}" + (" afs" if afs else ""),
        options,
        t_steps,
        states,
        calls,
        **more,
    )


def deis():
    cases = []
    for mode in ("tab", "rhoab"):
        for max_order in (2, 3, 4):  # order 1 is Euler (and raises in the public sampler)
            for num_steps, afs in ((4, True), (7, False)):
                cases.append(deis_case(len(cases), mode, num_steps, max_order, afs))
    return cases
