"""One-step and multistep baselines, and teacher trajectories."""

import torch

from golden_harness import LARGE, SCHEDULES, SMALL, Denoiser, case, grid, latents_of, public, run_sampler


def baseline_case(index, module, function, solver, num_steps, afs, shape=SMALL, labels=None, quirk=None, **options):
    kind, rho = SCHEDULES[index % 3]
    t_steps = grid(num_steps, kind, rho)
    states, calls = run_sampler(
        module.solvers, function, t_steps, latents_of(shape, 100 + index), labels, afs=afs, **options
    )
    recorded = {"solver": solver, "num_steps": num_steps, "afs": afs, "schedule_type": kind, "schedule_rho": rho}
    recorded |= {k: v for k, v in options.items() if k != "coeff_list"}
    words = (
        [solver, f"N={num_steps}"]
        + (["afs"] if afs else [])
        + [f"{k}={v}" for k, v in options.items() if k != "coeff_list"]
    )
    more = {"labels": labels} | ({"quirk": quirk} if quirk else {})
    return case(" ".join(words), recorded, t_steps, states, calls, **more)


def refined_afs_case(index, function, solver, inner_steps):
    """AFS on the first sub-step of the first interval only: two runs joined (the public loop repeats it)."""
    t_steps = grid(4, *SCHEDULES[index % 3])
    latents = latents_of(SMALL, 100 + index)
    first, calls = run_sampler(public.epd.solvers, function, t_steps[:2], latents, afs=True, inner_steps=inner_steps)
    rest, more_calls = run_sampler(
        public.epd.solvers, function, t_steps[1:], first[-1] / t_steps[1], afs=False, inner_steps=inner_steps
    )
    kind, rho = SCHEDULES[index % 3]
    options = {
        "solver": solver,
        "num_steps": 4,
        "afs": True,
        "schedule_type": kind,
        "schedule_rho": rho,
        "inner_steps": inner_steps,
    }
    return case(
        f"{solver} N=4 afs inner_steps={inner_steps}",
        options,
        t_steps,
        torch.cat([first, rest[1:]]),
        calls + more_calls,
        labels=None,
    )


def baselines():
    cases, i = [], 0

    def add(*args, **kwargs):
        nonlocal i
        cases.append(baseline_case(i, *args, **kwargs))
        i += 1

    for num_steps, afs in ((2, False), (4, True), (6, False)):
        add(public.ds, "euler_sampler", "euler", num_steps, afs)
        add(public.ds, "heun_sampler", "heun", num_steps, afs)
        add(public.ds, "dpm_2_sampler", "dpm", num_steps, afs)
    for solver in ("heun", "dpm"):
        for inner_steps in (2, 3):
            add(public.epd, solver + "_sampler", solver, 4, False, inner_steps=inner_steps)
            cases.append(refined_afs_case(i, solver + "_sampler", solver, inner_steps))
            i += 1
        add(
            public.epd,
            solver + "_sampler",
            solver,
            4,
            True,
            inner_steps=3,
            quirk="AFS on the first sub-step of every interval",
        )
        add(public.epd, solver + "_sampler", solver, 3, False, labels=[1, 2], shape=LARGE, inner_steps=3)
    for max_order in (1, 2, 3, 4):
        for num_steps, afs in ((4, True), (6, False)):
            add(public.epd, "ipndm_sampler", "ipndm", num_steps, afs, max_order=max_order)
    with without_thresholding():
        for max_order in (1, 2, 3):
            for predict_x0 in (True, False):
                for lower in (True, False):
                    options = dict(max_order=max_order, predict_x0=predict_x0, lower_order_final=lower)
                    add(public.ds, "dpm_pp_sampler", "dpmpp", 6, False, **options)
                    if max_order == 3:
                        add(public.ds, "dpm_pp_sampler", "dpmpp", 4, True, **options)
                        add(public.ds, "dpm_pp_sampler", "dpmpp", 3, False, **options)
        add(
            public.ds,
            "dpm_pp_sampler",
            "dpmpp",
            6,
            True,
            labels=[1, 2],
            shape=LARGE,
            max_order=3,
            predict_x0=True,
            lower_order_final=True,
        )
    options = dict(predict_x0=True, lower_order_final=True, thresholding=True)
    add(public.ds, "dpm_pp_sampler", "dpmpp", 5, False, labels=[1, 2], shape=LARGE, max_order=3, **options)
    add(public.ds, "dpm_pp_sampler", "dpmpp", 5, True, labels=[2, 1], max_order=2, **options)
    return cases


class without_thresholding:
    """The public data-prediction solvers always threshold; these runs replace that by the identity."""

    def __enter__(self):
        self.saved = public.ds.solvers.dynamic_thresholding_fn
        public.ds.solvers.dynamic_thresholding_fn = public.ds.solver_utils.dynamic_thresholding_fn = lambda x: x

    def __exit__(self, *_):
        public.ds.solvers.dynamic_thresholding_fn = public.ds.solver_utils.dynamic_thresholding_fn = self.saved


def new_loss(num_steps, student, teacher, inserted, kind, rho, afs, max_order):
    return public.epd.loss.EPD_loss(
        num_steps=num_steps,
        sampler_stu=student,
        sampler_tea=teacher,
        M=inserted,
        schedule_type=kind,
        schedule_rho=rho,
        afs=afs,
        max_order=max_order,
        sigma_min=0.002,
        sigma_max=80.0,
    )


def teachers():
    """The teacher's states on the student's grid, from the same start as the student."""
    cases = []
    for index, (solver, num_steps, inserted) in enumerate(
        [
            ("heun", 4, 3),
            ("heun", 3, 1),
            ("dpm", 4, 3),
            ("dpm", 3, 1),
            ("ipndm", 4, 3),
            ("ipndm", 6, 1),
            ("euler", 4, 3),
            ("dpmpp", 4, 3),
        ]
    ):
        kind, rho = SCHEDULES[(index // 2) % 3]
        start = 80.0 * latents_of(SMALL, 300 + index)
        dense = grid((inserted + 1) * (num_steps - 1) + 1, kind, rho)
        if solver in ("euler", "dpmpp"):
            with without_thresholding():
                function = {"euler": "euler_sampler", "dpmpp": "dpm_pp_sampler"}[solver]
                states, calls = run_sampler(public.ds.solvers, function, dense, start / 80.0, max_order=3)
            states = states[:: inserted + 1]
        else:
            net = Denoiser()
            loss = new_loss(num_steps, "epd", solver, inserted, kind, rho, afs=True, max_order=3)
            states = torch.cat([start[None], loss.get_teacher_traj(net, start)])
            calls = net.calls
        options = {"solver": solver, "num_steps": num_steps, "M": inserted, "schedule_type": kind, "schedule_rho": rho}
        options |= {"inner_steps": 3} if solver in ("heun", "dpm") else {}
        options |= {"max_order": 3} if solver in ("ipndm", "dpmpp") else {}
        options |= {"predict_x0": True, "lower_order_final": True} if solver == "dpmpp" else {}
        cases.append(
            case(
                f"teacher {solver} N={num_steps} M={inserted}",
                options,
                grid(num_steps, kind, rho),
                states,
                calls,
                teacher_t_steps=dense,
            )
        )
    return cases
