"""Schedules, noise tables and the values of the published predictors."""

import collections
import io
import os
import pickle
import types

import numpy as np
import torch

from golden_harness import flat, grid, public
from golden_students import PARAMETERS


class TableModel:
    """What the VP wrapper wants of a latent model: a table of cumulative alphas."""

    def __init__(self, linear_start, linear_end, dtype):
        betas = np.linspace(linear_start**0.5, linear_end**0.5, 1000) ** 2
        self.alphas_cumprod = torch.tensor(np.cumprod(1 - betas), dtype=dtype)


def noise_nets(dtype):
    torch.set_default_dtype(dtype)
    nets = {
        "ldm": public.epd.networks_edm.CFGPrecond(TableModel(0.0015, 0.0195, dtype), guidance_type="uncond"),
        "sd": public.epd.networks_edm.CFGPrecond(TableModel(0.00085, 0.0120, dtype), guidance_type="uncond"),
        "adm": public.epd.networks_edm.CGPrecond(
            types.SimpleNamespace(image_size=256, in_channels=3, num_classes=1000), None
        ),
    }
    torch.set_default_dtype(torch.float64)
    return nets


def schedules():
    double, single = noise_nets(torch.float64), noise_nets(torch.float32)
    tables = []
    for name, net in double.items():
        u = [1e-4, 5e-4, 1e-3, 0.0015, 0.01, 0.1234, 0.5, 0.777, 1.0, 1.05]
        sigma = [float(net.sigma(torch.tensor([v]))) for v in u]
        back = [float(net.sigma_inv(torch.tensor([v]))) for v in sigma]
        row = {
            "name": name,
            "sigma_min": net.sigma_min,
            "sigma_max": net.sigma_max,
            "sigma_min_float32": single[name].sigma_min,
            "sigma_max_float32": single[name].sigma_max,
            "u": u,
            "sigma": sigma,
            "sigma_inv_of_sigma": back,
        }
        if name != "adm":
            cumprod = net.model.alphas_cumprod
            row |= {
                "alphas_cumprod_index": [0, 1, 499, 999],
                "alphas_cumprod": [float(cumprod[i]) for i in (0, 1, 499, 999)],
            }
        tables.append(row)
    cases = []
    ranges = {"edm": (0.002, 80.0)} | {name: (net.sigma_min, net.sigma_max) for name, net in double.items()}
    for kind, rhos in (
        ("polynomial", (7.0, 3.0)),
        ("logsnr", (7.0,)),
        ("time_uniform", (1.0, 2.0)),
        ("discrete", (1.0, 2.0)),
    ):
        for rho in rhos:
            for model, (low, high) in ranges.items():
                if kind == "discrete" and model == "edm":
                    continue
                if model in ("sd", "adm") and (kind, rho) not in (("discrete", 1.0), ("time_uniform", 1.0)):
                    continue
                for num_steps in (2, 3, 4, 6, 11) if model == "edm" else (2, 4):
                    exact = grid(num_steps, kind, rho, low, high, double.get(model))
                    narrow = grid(num_steps, kind, rho, low, high, single.get(model), torch.float32)
                    cases.append(
                        {
                            "options": {
                                "schedule_type": kind,
                                "schedule_rho": rho,
                                "num_steps": num_steps,
                                "model": model,
                                "sigma_min": low,
                                "sigma_max": high,
                            },
                            "t_steps": exact,
                            "t_steps_float32": [float(f"{t:.9g}") for t in narrow],
                        }
                    )
    return {"tables": tables, "cases": cases}


class _Stub:
    """Stands for a class of the pickle that is not needed: keeps its state, runs nothing."""

    def __setstate__(self, state):
        self.state = state


class TableUnpickler(pickle.Unpickler):
    """Reads tensors and plain containers; every other object becomes a _Stub, so no code of the file runs."""

    def find_class(self, module, name):
        if (module, name) == ("torch_utils.persistence", "_reconstruct_persistent_obj"):
            return lambda meta: types.SimpleNamespace(**meta["state"]) if isinstance(meta, dict) else meta
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")):
            return getattr(torch._utils, name)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        return type(name, (_Stub,), {})


def predictors(checkout):
    folder = os.path.join(checkout, "exps")
    cases = []
    for run in sorted(os.listdir(folder)):
        files = sorted(f for f in os.listdir(os.path.join(folder, run)) if f.endswith(".pkl"))
        if not files:
            continue
        with open(os.path.join(folder, run, files[-1]), "rb") as file:
            snapshot = TableUnpickler(file).load()
        model, loss = snapshot["model"], snapshot["loss_fn"]
        options = {
            k: getattr(model, k)
            for k in (
                "dataset_name",
                "num_steps",
                "num_points",
                "sampler_stu",
                "sampler_tea",
                "M",
                "afs",
                "scale_dir",
                "scale_time",
                "fcn",
                "schedule_type",
                "schedule_rho",
                "max_order",
                "predict_x0",
                "lower_order_final",
            )
        }
        predictor = public.epd.networks.EPD_predictor(**options)
        for name in PARAMETERS:
            getattr(predictor, name).data = model._parameters[name].detach().double()
        values = {"r": [], "weight": [], "scale_dir": [], "scale_time": []}
        for step in range(predictor.num_steps - 1):
            r, o, s, w = public.epd.solvers.get_epd_prediction(predictor, step, None, None, None, 1)
            for key, value in zip(values, (r, w, o, s)):
                values[key].append(flat(value))
        # The sampling script passes the integer 80 for the pixel models, which changes the last digit of some steps.
        high = 80 if loss.sigma_max == 80 else loss.sigma_max
        t_steps = grid(loss.num_steps, loss.schedule_type, loss.schedule_rho, loss.sigma_min, high, dtype=torch.float32)
        saved = loss.t_steps.double().tolist()
        cases.append(
            {"name": run, "options": options, "t_steps_sampling": t_steps, "t_steps_training": saved, **values}
        )
    return cases
