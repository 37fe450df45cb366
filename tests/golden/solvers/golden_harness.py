"""What every golden case needs: the closed-form denoiser, the public modules, and a run of one sampler."""

import importlib
import importlib.machinery
import sys
import types
import unittest.mock

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

# label -> (centre a, offset mu, width s) of the two-component mixture; no label means row 0.
MIXTURES = [(0.1, 0.7, 0.25), (-0.2, 1.5, 0.5), (0.3, 0.4, 0.1)]


class Denoiser:
    """E[y | x] of y ~ 1/2 N(a + mu, s^2) + 1/2 N(a - mu, s^2) per coordinate, with the attributes the samplers want."""

    def __init__(self):
        self.img_resolution = 256  # so that the samplers hook model.middle_block
        self.model = types.SimpleNamespace(middle_block=torch.nn.Identity())
        self.calls = 0

    def __call__(self, x, sigma, class_labels=None, **_):
        self.calls += 1
        sigma = torch.as_tensor(sigma).reshape(-1, 1, 1, 1)
        labels = torch.zeros(1, dtype=torch.int64) if class_labels is None else class_labels
        a, mu, s = (column.reshape(-1, 1, 1, 1) for column in torch.tensor(MIXTURES)[labels].unbind(1))
        v = s**2 + sigma**2
        return a + (s**2 * (x - a) + sigma**2 * mu * torch.tanh(mu * (x - a) / v)) / v


# The imported modules of the two checkouts; filled by make_goldens.py.
public = types.SimpleNamespace(epd=None, ds=None)


def import_checkout(path, names):
    """Imports modules from a checkout, in place of those of the same name from another one."""
    for name in ("piq", "requests", "tqdm", "click", "psutil"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = unittest.mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None))
    for name in ("solver_utils", "solvers"):
        sys.modules.pop(name, None)
    sys.path.insert(0, path)
    modules = types.SimpleNamespace(**{name.split(".")[-1]: importlib.import_module(name) for name in names})
    sys.path.remove(path)
    return modules


class GivenGrid:
    """Makes a solvers module use given time steps; refinements inside an interval stay the module's own."""

    def __init__(self, solvers, t_steps):
        self.solvers, self.t_steps, self.original = solvers, torch.tensor(t_steps), solvers.get_schedule

    def __enter__(self):
        def schedule(num_steps, *args, schedule_type=None, **kwargs):
            if schedule_type == "given":
                return self.t_steps
            return self.original(num_steps, *args, schedule_type=schedule_type, **kwargs)

        self.solvers.get_schedule = schedule

    def __exit__(self, *_):
        self.solvers.get_schedule = self.original


def run_sampler(solvers, name, t_steps, latents, labels=None, **options):
    """Grid states (start included) and the number of network calls."""
    net = Denoiser()
    with GivenGrid(solvers, t_steps), torch.no_grad():
        out = getattr(solvers, name)(
            net,
            latents,
            class_labels=None if labels is None else torch.tensor(labels),
            num_steps=len(t_steps),
            schedule_type="given",
            return_inters=True,
            t_steps=torch.tensor(t_steps),
            **options,
        )
    return out, net.calls


def grid(num_steps, kind="polynomial", rho=7.0, sigma_min=0.002, sigma_max=80.0, net=None, dtype=torch.float64):
    torch.set_default_dtype(dtype)
    t_steps = public.epd.solver_utils.get_schedule(
        num_steps, sigma_min, sigma_max, schedule_type=kind, schedule_rho=rho, net=net
    )
    torch.set_default_dtype(torch.float64)
    return t_steps.double().tolist()


def latents_of(shape, seed):
    return torch.tensor(np.round(np.random.RandomState(seed).randn(*shape), 3))


SMALL, LARGE = (2, 3, 1, 1), (2, 3, 2, 2)
SCHEDULES = [("polynomial", 7.0), ("time_uniform", 1.0), ("logsnr", 7.0), ("time_uniform", 2.0), ("polynomial", 3.0)]


def flat(tensor, digits=13):
    """Results get 13 digits; what a test starts from gets 17, that is all."""
    return [float(f"{float(v):.{digits}g}") for v in tensor.detach().reshape(-1)]


def case(name, options, t_steps, states, nfe, **more):
    rows = [flat(states[0], digits=17)] + [flat(x) for x in states[1:]]
    return {
        "name": name,
        "options": options,
        "t_steps": t_steps,
        "shape": list(states.shape[1:]),
        **more,
        "nfe": nfe,
        "states": rows,
    }
