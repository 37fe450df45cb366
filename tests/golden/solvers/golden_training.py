"""Three training iterations: losses, gradients and the parameters they lead to."""

import torch

from golden_baselines import new_loss
from golden_harness import SMALL, Denoiser, flat, latents_of, public
from golden_students import PARAMETERS, make_predictor, parameters_of


class Wrapped(torch.nn.Module):
    """The loss reads its options from `.module`, as of a data-parallel wrapper."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args):
        return self.module(*args)


class ClosedFeatures:
    """A stand-in for Inception: tanh((image - 128) / 64), one feature per pixel value."""

    def __init__(self, **_):
        pass

    def extract_features(self, images):
        return torch.tanh((images.reshape(images.shape[0], -1) - 128) / 64)


def training_case(
    index,
    student,
    teacher,
    objective,
    last_loss="l2",
    scales=(0.05, 0.2),
    fcn=False,
    coslr=False,
    num_steps=4,
    num_points=2,
    inserted=1,
    max_order=3,
    kind="time_uniform",
    rho=1.0,
    labels=None,
):
    iterations, batch = 3, SMALL[0]
    predictor = make_predictor(
        num_steps, num_points, 2000 + index, scale_dir=scales[0], scale_time=scales[1], fcn=fcn, alpha=10
    )
    start_parameters = parameters_of(predictor)
    loss_fn = new_loss(num_steps, student, teacher, inserted, kind, rho, True, max_order)
    optimizer = torch.optim.Adam(predictor.parameters(), lr=0.2, betas=(0.9, 0.999), eps=1e-8)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=iterations + 1, eta_min=0.01)
    label_tensor = None if labels is None else torch.tensor(labels)
    steps = []
    starts = []
    for iteration in range(iterations):
        net = Denoiser()
        x = 80.0 * latents_of(SMALL, 700 + 10 * index + iteration)
        starts.append(flat(x, digits=17))
        with torch.no_grad():
            targets = loss_fn.get_teacher_traj(net, x, labels=label_tensor)
        if last_loss == "l2":
            loss_fn.num_steps = 10**6  # no step is then the one with the feature loss
        for step in range(num_steps - 1):
            optimizer.zero_grad(set_to_none=True)
            loss, _, x = loss_fn(
                predictor=Wrapped(predictor),
                net=net,
                tensor_in=x,
                labels=label_tensor,
                step_idx=step,
                teacher_out=targets[step],
                dataset="cifar10",
            )
            value = loss.sum() / batch
            if objective == "per_step" or step == num_steps - 2:
                value.backward(retain_graph=True)
            gradients = {}
            for name in PARAMETERS:
                grad = getattr(predictor, name).grad
                if grad is not None:
                    torch.nan_to_num(grad, nan=0, posinf=1e5, neginf=-1e5, out=grad)
                    gradients[name] = [flat(row) for row in grad]
            optimizer.step()
            steps.append(
                {
                    "iteration": iteration,
                    "step": step,
                    "loss": flat(value)[0],
                    "lr": optimizer.param_groups[0]["lr"],
                    **(
                        {"target": flat(targets[step]), "state": flat(x), "gradients": gradients}
                        if iteration == 0
                        else {}
                    ),
                    **(
                        {
                            "parameters_after": {
                                name: [flat(row) for row in getattr(predictor, name)] for name in PARAMETERS
                            }
                        }
                        if step == num_steps - 2
                        else {}
                    ),
                }
            )
        if coslr:
            cosine.step()
    options = {
        "sampler_stu": student,
        "sampler_tea": teacher,
        "objective": objective,
        "last_loss": last_loss,
        "num_steps": num_steps,
        "num_points": num_points,
        "M": inserted,
        "afs": True,
        "scale_dir": scales[0],
        "scale_time": scales[1],
        "fcn": fcn,
        "max_order": max_order,
        "schedule_type": kind,
        "schedule_rho": rho,
        "alpha": 10,
        "lr": 0.2,
        "coslr": coslr,
        "iterations": iterations,
    }
    options |= {"coslr_period": iterations + 1} if coslr else {}
    return {
        "name": f"{student} from {teacher}, {objective}, {last_loss}" + (", coslr" if coslr else ""),
        "options": options,
        "t_steps": loss_fn.t_steps.tolist(),
        "shape": list(SMALL),
        "labels": labels,
        "parameters": start_parameters,
        "starts": starts,
        "steps": steps,
    }


def training():
    public.epd.loss.InceptionFeatureExtractor = ClosedFeatures
    cases = []
    for student in ("epd", "ipndm"):
        for teacher in ("heun", "dpm"):
            for objective in ("per_step", "end_to_end"):
                cases.append(training_case(len(cases), student, teacher, objective))
    cases.append(training_case(len(cases), "epd", "heun", "per_step", last_loss="features", coslr=True, num_points=3))
    cases.append(
        training_case(len(cases), "epd", "dpm", "end_to_end", last_loss="features", scales=(0, 0), labels=[1, 2])
    )
    cases.append(
        training_case(
            len(cases),
            "ipndm",
            "ipndm",
            "per_step",
            scales=(0.05, 0),
            fcn=True,
            num_steps=6,
            num_points=1,
            max_order=4,
            kind="polynomial",
            rho=7.0,
        )
    )
    return cases
