"""The learned solvers epd and ipndm with given raw parameters."""

import numpy as np
import torch

from golden_harness import LARGE, SCHEDULES, SMALL, case, grid, latents_of, public, run_sampler


def make_predictor(num_steps, num_points, seed, **options):
    predictor = public.epd.networks.EPD_predictor(
        num_points=num_points, num_steps=num_steps, sampler_stu="epd", sampler_tea="heun", **options
    )
    rng = np.random.RandomState(seed)
    for name in PARAMETERS:
        getattr(predictor, name).data = torch.tensor(np.round(rng.randn(num_steps - 1, num_points), 3))
    return predictor


PARAMETERS = ("r_params", "weight_s", "scale_dir_params", "scale_time_params")


def parameters_of(predictor):
    return {name: getattr(predictor, name).detach().tolist() for name in PARAMETERS}


def student_case(
    index, solver, num_steps, num_points, afs, max_order=None, shape=SMALL, labels=None, t_steps=None, **scales
):
    kind, rho = SCHEDULES[index % len(SCHEDULES)]
    schedule = {"schedule_type": "given"} if t_steps else {"schedule_type": kind, "schedule_rho": rho}
    t_steps = t_steps or grid(num_steps, kind, rho)
    predictor = make_predictor(num_steps, num_points, 1000 + index, **scales)
    latents = latents_of(shape, index)
    common = dict(afs=afs, predictor=predictor) | ({"max_order": max_order} if max_order else {})
    name = {"epd": "epd_sampler", "ipndm": "ipndm_sampler"}[solver]
    states, calls = run_sampler(public.epd.solvers, name, t_steps, latents, labels, **common)
    nfe = 2 * (num_steps - 1) - afs
    if solver == "epd" and labels is None:
        parallel, nfe = run_sampler(public.epd.solvers, "epd_parallel_sampler", t_steps, latents, **common)
        assert (parallel - states).abs().max() < 1e-12 * states.abs().max()
    options = {"solver": solver, "num_steps": num_steps, "num_points": num_points, "afs": afs, **schedule, **scales}
    options |= {"max_order": max_order} if max_order else {}
    title = (
        f"{solver} N={num_steps} K={num_points}"
        + (" afs" if afs else "")
        + (f" order {max_order}" if max_order else "")
    )
    more = {"evaluations": calls, "labels": labels, "parameters": parameters_of(predictor)}
    return case(title, options, t_steps, states, nfe, **more)


def students():
    scales = [
        dict(scale_dir=0.05, scale_time=0.2, fcn=False),
        dict(scale_dir=0, scale_time=0, fcn=False),
        dict(scale_dir=0.1, scale_time=0, fcn=True),
        dict(scale_dir=0, scale_time=0.05, fcn=False),
        dict(scale_dir=0.05, scale_time=0.05, fcn=True),
    ]
    cases, index = [], 0
    for solver in ("epd", "ipndm"):
        for num_steps in (3, 4, 6):
            for num_points in (1, 2, 3, 4):
                for afs in (False, True):
                    order = 1 + (num_points + afs) % 4 if solver == "ipndm" else None
                    # 7 and 5 are coprime, so schedules and scales meet in all combinations.
                    cases.append(
                        student_case(index, solver, num_steps, num_points, afs, order, **scales[(index // 3) % 5])
                    )
                    index += 1
        order = 3 if solver == "ipndm" else None
        cases.append(student_case(index, solver, 4, 2, True, order, labels=[1, 2], **scales[0]))
        cases.append(student_case(index + 1, solver, 4, 2, False, order, shape=LARGE, **scales[0]))
        irregular = [25.0, 3.0, 2.5, 0.4, 0.05]
        cases.append(student_case(index + 2, solver, 5, 2, True, order, t_steps=irregular, **scales[0]))
        index += 3
    return cases
