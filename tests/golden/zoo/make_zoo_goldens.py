"""Trajectories of the public samplers of the zoo's projects on small random networks, for tests/models/test_zoo.py.

    python make_zoo_goldens.py PUBLIC [--out trajectories.npz]

PUBLIC holds checkouts named AdaSDE (Westlake-AGI-Lab, 8f1b4b6), DyWeight (Westlake-AGI-Lab, 620534e), EPD (BeierZhu,
88a91f0) and NeuralSolver (MCG-NJU, 7188794). Needs torch, diffusers 0.42 and einops. Their samplers run as they are; their pickles are read, not run. For
each entry, one after another: what the network was given (states [calls, 8], told [calls]) and the image [8] that came
out.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "models"))

import zoo_support  # noqa: E402  the path of the modules below comes with it
from zoo_support import SHAPE, noise, raw  # noqa: E402

# isort: split
import safe_load  # noqa: E402
from import_predictors import read_zoo  # noqa: E402
from state_dict import state_of  # noqa: E402


class Recorder:
    """Calls a network and keeps what it was given."""

    def __init__(self, function):
        self.function, self.states, self.told = function, [], []

    def __call__(self, x, level, **_conditions):
        level = torch.as_tensor(level, dtype=torch.float32).reshape(-1)
        self.states += list(x.detach().reshape(len(x), -1).numpy())
        self.told += level.expand(len(x)).tolist()
        return self.function(x, level)

    def golden(self, image):
        return {
            "states": np.float32(self.states),
            "told": np.float32(self.told),
            "image": image.detach().reshape(-1).numpy(),
        }


def enter(folder: Path, *modules: str):
    """Modules of one project, whose names others have too."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("solvers", "solver_utils", "torch_utils", "training", "models", "dnnlib", "src"):
            del sys.modules[name]
    sys.path.insert(0, str(folder))
    loaded = [importlib.import_module(name) for name in modules]
    sys.path.remove(str(folder))
    return loaded


class EdmNet(Recorder):
    label_dim, img_resolution = 0, 32

    def __init__(self):
        super().__init__(zoo_support.edm)


def latent_net(networks, betas: tuple[float, float]):
    """The project's own CFGPrecond around the random network, as an unguided model."""
    alphas = torch.tensor(np.cumprod(1 - np.linspace(betas[0] ** 0.5, betas[1] ** 0.5, 1000) ** 2), dtype=torch.float32)
    middle = types.SimpleNamespace(middle_block=torch.nn.Identity())
    model = types.SimpleNamespace(
        alphas_cumprod=alphas,
        apply_model=lambda x, t, c=None: raw(x, t / 1000),
        model=types.SimpleNamespace(diffusion_model=middle),
    )
    holder = torch.nn.Module()
    holder.__dict__.update(vars(model))
    net = networks.CFGPrecond(holder, guidance_type="uncond")
    recorder = Recorder(lambda x, sigma: net.forward(x, sigma))
    for name in ("sigma", "sigma_inv", "guidance_type", "sigma_min", "sigma_max", "model"):
        setattr(recorder, name, getattr(net, name))
    return recorder


def dyweight(public: Path):
    solvers, networks, runner, schedule = enter(
        public, "solvers", "models.networks_edm", "models.flux.dyweight", "models.flux.sampling"
    )
    latent = {"lsun_bedroom_ldm": (0.0015, 0.0195), "ms_coco": (0.00085, 0.012)}
    for file in sorted(public.glob("exps/*/*.pkl")):
        content = safe_load.load(file)
        learned, loss, numbers = content["predictor"].state, content["loss_fn"].state, state_of(content["predictor"])
        net = latent_net(networks, latent[loss["dataset_name"]]) if loss["dataset_name"] in latent else EdmNet()
        image = solvers.dyweight_sampler(
            net,
            noise(),
            num_steps=learned["num_steps"],
            sigma_min=getattr(net, "sigma_min", 0.002),
            sigma_max=getattr(net, "sigma_max", 80.0),
            schedule_type=loss["schedule_type"],
            schedule_rho=loss["schedule_rho"],
            afs=learned["afs"],
            hybrid_weights=numbers["hybrid_weights"] * numbers["mask"],
            t_scale=numbers["t_scale"],
        )
        yield file, net.golden(image)
    for file in sorted(public.glob("dyweight_flux/checkpoints/*.pt")):
        content = safe_load.load(file)
        parameters = runner.DyweightParams(len(content["dyweight_weights_raw"]), window_size=content["window_size"])
        parameters.load_state_dict(content["dyweight_params"])
        net = Recorder(raw)
        transformer = lambda hidden_states, timestep, net=net, **_: (net(hidden_states, timestep),)
        sigmas = schedule.get_schedule(parameters.K, image_seq_len=1024)
        image = runner.DyweightRunner(transformer, parameters)._student_forward(
            noise(), torch.tensor(sigmas), None, None, None, None, None
        )
        yield file, net.golden(image)


def epd(public: Path):
    import diffusers

    diffusers.StableDiffusion3Pipeline = diffusers.FluxPipeline = object  # named by the backends, not used here
    solvers, networks, trained, sd3, flux = enter(
        public,
        "solvers",
        "models.networks_edm",
        "training.networks",
        "models.backends.sd3_diffusers_backend",
        "models.backends.flux_diffusers_backend",
    )
    backends = {"sd3": sd3.SD3DiffusersBackend, "flux": flux.FluxDiffusersBackend}
    for file in sorted([*public.glob("exps/*/*-best.pkl"), *public.glob("exps/*/*-distilled.pkl")]):
        learned = safe_load.load(file)["model"]
        options = {key: value for key, value in learned.state.items() if not key.startswith("_")}
        predictor = trained.EPD_predictor(**options)
        predictor.load_state_dict(state_of(learned))
        if options["backend"] == "ldm":
            net = latent_net(networks, (0.00085, 0.012))
        else:
            net = Recorder(zoo_support.flow)
            net.backend = options["backend"]
            net.make_flowmatch_schedule = flow_schedule(backends[net.backend], options)
        image, _ = solvers.epd_parallel_sampler(
            net,
            noise(),
            num_steps=options["num_steps"],
            sigma_min=getattr(net, "sigma_min", None),
            sigma_max=getattr(net, "sigma_max", None),
            schedule_type=options["schedule_type"],
            schedule_rho=options["schedule_rho"],
            predictor=predictor,
        )
        yield file, net.golden(image)


def adasde(public: Path):
    solvers, trained = enter(public, "solvers", "training.networks")
    for file in sorted(public.glob("exps/*/*.pkl")):
        learned = safe_load.load(file)["model"]
        options = {key: value for key, value in learned.state.items() if not key.startswith("_")}
        predictor = trained.adasde_predictor(**options)
        predictor.gamma_min = options["gamma_min"]
        predictor.load_state_dict(state_of(learned))
        net, draws = EdmNet(), zoo_support.draws()
        image, _ = solvers.adasde_sampler(
            net,
            noise(),
            randn_like=lambda x, draws=draws: next(draws),
            num_steps=options["num_steps"],
            schedule_type=options["schedule_type"],
            schedule_rho=options["schedule_rho"],
            afs=options["afs"],
            predictor=predictor,
        )
        yield file, net.golden(image)


def flow_schedule(backend, options):
    """The backend's own make_flowmatch_schedule over the scheduler that its pipeline is published with."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    dynamic = options["backend"] == "flux"
    stand_in = types.SimpleNamespace(
        default_flowmatch_mu=options["backend_config"].get("flowmatch_mu"),
        flowmatch_use_dynamic_shifting=dynamic,
        pipeline=types.SimpleNamespace(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic), _execution_device="cpu"
        ),
    )
    stand_in.resolve_flowmatch_mu = lambda override=None: backend.resolve_flowmatch_mu(stand_in, override=override)
    stand_in._compute_default_mu = lambda **_: None
    return lambda num_steps, device=None: backend.make_flowmatch_schedule(stand_in, num_steps, device=device)


def neuralsolver(public: Path):
    sampling, guidance = enter(public, "src.diffusion.flow_matching.ns_sampling", "src.diffusion.base.guidance")
    for steps in (5, 6, 7, 8, 9, 10, 15):
        net = Recorder(lambda x, t: -raw(x, 1 - t))
        sampler = sampling.NeuralSolverSampler(
            steps, scheduler=object(), null_class=0, guidance_fn=guidance.simple_guidance_fn
        )
        both = lambda x, t, labels, net=net: net(x[:1], t[:1]).repeat(2, 1, 1, 1)
        image = sampler(both, noise(), torch.zeros(1))
        net.told = [1 - t for t in net.told]
        yield f"neuralsolver/flowdcn-{steps}", net.golden(image)
    fm, vp = enter(public / "t2i_vis", "fm_scheduling", "vp_scheduling")
    for name, module, tables, told in (("sit", fm, fm.FM_DATA_SIT, 1000), ("dit", vp, vp.DDPM_DATA, 1)):
        for key in tables:
            steps = int(key.removeprefix("step"))
            net = Recorder(lambda x, t: raw(x, t / 1000))
            scheduler = module.NeuralSolver(1000)
            scheduler.set_timesteps(steps, "cpu")
            x = noise()
            for t in scheduler.timesteps:
                x = scheduler.step(net(x, t), t, x, return_dict=False)[0]
            net.told = [t / told for t in net.told]
            yield f"neuralsolver/{name}-{steps}", net.golden(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("public", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "trajectories.npz")
    arguments = parser.parse_args()
    made = {}
    with torch.no_grad():
        for project, make in (("DyWeight", dyweight), ("EPD", epd), ("NeuralSolver", neuralsolver), ("AdaSDE", adasde)):
            for entry, golden in make(arguments.public / project):
                [name] = read_zoo(entry, "") if isinstance(entry, Path) else [entry]
                made[name + "b" * (name in made)] = golden
    whole = {key: np.concatenate([golden[key] for golden in made.values()]) for key in ("states", "told", "image")}
    calls = [len(golden["told"]) for golden in made.values()]
    np.savez_compressed(arguments.out, names=list(made), calls=calls, **whole)
    print(f"{arguments.out}: {len(made)} trajectories, states of shape {SHAPE}")


if __name__ == "__main__":
    main()
