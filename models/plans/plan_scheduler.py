"""PlanScheduler: a plan file as a scheduler of diffusers. One file, to be copied beside a pipeline.

    pipe.scheduler = PlanScheduler.from_config(pipe.scheduler.config, plan="plan.json")
    image = pipe(prompt, num_inference_steps=1).images[0]    # the plan has its own steps; the number is ignored

A step of a plan may evaluate the network at several points: they come one after another, each as a timestep. Between
timesteps the pipeline's `sample` is the network's next input, and after the last the image. Networks may predict the
noise, v, the sample, or the velocity of a flow, as the pipeline's own scheduler says. A plan's further noise comes from
the pipeline's generator: a list, one per image, gives the images that `sample` makes of their seeds. Plans begin with
pure noise, so that pipelines which begin with an image are not served.
"""

import hashlib
import json
import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor


def read_plan(plan):
    """The plan of a file, or its content; ValueError for what is no plan that can run."""
    try:
        if not isinstance(plan, dict):
            with open(plan, encoding="utf-8") as file:
                plan = json.loads(text := file.read())
            if plan.get("sha256") not in (
                None,
                hashlib.sha256(text.rpartition(',\n  "sha256"')[0].encode()).hexdigest(),
            ):
                raise ValueError("damaged, or edited (then take its sha256 out)")
        if plan["format"] != "epd-plan" or plan["version"] != 1 or not 0 < plan["times"][0] < math.inf:
            raise ValueError("not an epd-plan of version 1 that begins at a positive level")
        known = {0, plan.get("mean", 0)}
        for n, step in enumerate(plan["instructions"]):
            outputs = step["evaluate"] if "evaluate" in step else [step["combine" if "combine" in step else "noise"]]
            inputs = step.get("states", step.get("registers", []))
            numbers = step.get("sigmas", step.get("coefficients", []))
            count = 0 if "noise" in step else len(outputs) if "evaluate" in step else len(inputs) or 1
            if not len(inputs) == len(numbers) == count or not outputs:
                raise ValueError(f"instruction {n}: lists that are empty or of different lengths")
            if not all(abs(number) < math.inf and ("combine" in step or number > 0) for number in numbers):
                raise ValueError(f"instruction {n}: a number is not finite, or a level not positive")
            if not known.issuperset(inputs) or not known.isdisjoint(outputs) or len({*outputs}) < len(outputs):
                raise ValueError(f"instruction {n} uses a register before it is defined, or defines one twice")
            known.update(outputs)
        if plan["grid"][-1] not in known:
            raise ValueError("its last register is never defined")
        return plan
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"PlanScheduler: not a plan that can run: {error!r}") from error


@dataclass
class PlanSchedulerOutput(BaseOutput):
    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


class PlanScheduler(SchedulerMixin, ConfigMixin):
    """`plan`: a plan file, or its content. `mean`: the mean of the data [C, H, W], for plans that begin with it."""

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(
        self,
        plan: str | dict,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list | None = None,
        rescale_betas_zero_snr: bool = False,
        prediction_type: str | None = None,
        mean: list | None = None,
    ):
        plan = read_plan(plan)
        self.plan, self.flow_clock = plan, plan.get("clock", "edm") == "flow"
        self.prediction = prediction_type or ("flow_prediction" if self.flow_clock else "epsilon")
        if self.prediction not in ("epsilon", "v_prediction", "sample", "flow_prediction"):
            raise ValueError(f"PlanScheduler: prediction_type {self.prediction!r} is not known")
        if self.flow_clock and self.prediction != "flow_prediction":
            raise ValueError(f"PlanScheduler: a plan on the clock of flow models, and a network of {self.prediction}")
        self.points = [  # (instruction, register of the state, level, register of the image), as they are evaluated
            (n, state, level, image)
            for n, step in enumerate(plan["instructions"])
            if "evaluate" in step
            for state, level, image in zip(step["states"], step["sigmas"], step["evaluate"])
        ]
        betas = trained_betas or self._betas(num_train_timesteps, beta_start, beta_end, beta_schedule)
        self.log_alpha = self._log_alpha(torch.as_tensor(betas, dtype=torch.float64), rescale_betas_zero_snr)
        if not self.points or any("noise" in step for step in plan["instructions"][: self.points[0][0]]):
            raise ValueError("PlanScheduler: a plan that does not begin with an evaluation of its noise")
        self.mean = None if mean is None else torch.as_tensor(mean, dtype=torch.float32)
        self.set_timesteps()

    @staticmethod
    def _betas(count, start, end, kind):
        if kind == "scaled_linear":
            return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
        if kind == "linear":
            return torch.linspace(start, end, count, dtype=torch.float64)
        if kind == "squaredcos_cap_v2":
            bar = [math.cos((n / count + 0.008) / 1.008 * math.pi / 2) ** 2 for n in range(count + 1)]
            return [min(1 - after / before, 0.999) for before, after in zip(bar, bar[1:])]
        raise ValueError(f"PlanScheduler: beta_schedule {kind!r} is not known")

    @staticmethod
    def _log_alpha(betas, zero_snr):
        """ln alpha at the network's timesteps 0, 1, ..., of x = alpha (x_0 + sigma e)."""
        table = (1 - betas).cumprod(0)
        if zero_snr:  # Lin et al. 2024, algorithm 1; in place of no signal at all next to none
            root = table.sqrt()
            table = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
            table[-1] = 2.0**-24 if table[-2] > 2.0**-24 else table[-2] / 2
        return table.log() / 2

    def _timestep(self, level):
        """What the network is told of a level: linear in ln alpha between its timesteps, and beyond their ends."""
        if self.prediction == "flow_prediction":
            return self._s(level) * self.config.num_train_timesteps
        log_alpha = -torch.log1p(torch.tensor(level, dtype=torch.float64) ** 2) / 2
        right = int(torch.searchsorted(-self.log_alpha, -log_alpha).clamp(1, len(self.log_alpha) - 1))
        low, high = self.log_alpha[right - 1], self.log_alpha[right]
        return float(right - 1 + (log_alpha - low) / (high - low))

    def _s(self, level):
        """A flow network's own level, s of x = (1 - s) x_0 + s e."""
        return level if self.flow_clock else level / (1 + level)

    def _scale(self, level):
        """The factor from a state of the plan to the network's input."""
        if self.prediction == "flow_prediction":
            return 1.0 if self.flow_clock else 1 - self._s(level)
        return (1 + level**2) ** -0.5

    def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
        """The plan's own evaluations; whatever number or levels are asked for."""
        told = [self._timestep(level) for _, _, level, _ in self.points]
        self.timesteps = torch.tensor(told, dtype=torch.float32, device=device)
        self.num_inference_steps = len(told)
        self._index, self._done, self._scaled, self._registers = 0, 0, False, {}

    def set_begin_index(self, begin_index=0):
        if begin_index:
            raise ValueError("PlanScheduler: a plan begins with noise, at its first evaluation")

    def __len__(self):
        return self.config.num_train_timesteps

    def _begin(self, noise):
        """The registers before the first instruction."""
        registers = {0: self.plan["times"][0] * noise.float()}
        if "mean" in self.plan:
            if self.mean is None:
                raise ValueError("PlanScheduler: the plan begins with the mean of the data; give mean=")
            registers[self.plan["mean"]] = self.mean.to(noise.device).expand_as(noise)
        return registers

    def _combine(self, registers, begin, end, generator=None):
        """Runs the weighted sums and draws of noise of the instructions from `begin` to `end`."""
        for step in self.plan["instructions"][begin:end]:
            if "combine" in step:
                terms = zip(step["coefficients"], step["registers"])
                registers[step["combine"]] = sum(c * registers[source] for c, source in terms)
            elif "noise" in step:
                registers[step["noise"]] = randn_tensor(registers[0].shape, generator, registers[0].device)

    def _input(self, registers, index):
        _, state, level, _ = self.points[index]
        return registers[state] * self._scale(level)

    def _first_input(self, noise):
        registers = self._begin(noise)
        self._combine(registers, 0, self.points[0][0])
        return self._input(registers, 0)

    def scale_model_input(self, sample, timestep=None):
        """The network's input: `sample` itself, except the first, which is made of the noise."""
        if self._index > 0:
            return sample
        self._scaled = True
        return self._first_input(sample).to(sample.dtype)

    def step(self, model_output, timestep, sample, return_dict=True, generator=None, **_unused):
        """Takes the network's output for the current point; returns its next input, or the image at the end."""
        if self._index >= len(self.points):
            raise ValueError("PlanScheduler: the plan is at its end; call set_timesteps")
        if self._index == 0:
            noise = sample.float()
            if not self._scaled:  # the network saw the noise as it is: take it as the plan's own first input
                if self.mean is not None:
                    raise ValueError("PlanScheduler: this pipeline does not scale its input, and the plan needs that")
                noise = noise / self._first_input(torch.ones_like(noise))
            self._registers = self._begin(noise)
            self._done = self.points[0][0]
            self._combine(self._registers, 0, self._done)
        _, state, level, image = self.points[self._index]
        denoised = self._denoised(model_output.float(), self._registers[state], level)
        self._registers[image] = denoised
        self._index += 1
        end = len(self.plan["instructions"]) if self._index == len(self.points) else self.points[self._index][0]
        self._combine(self._registers, self._done, end, generator)
        self._done = end
        if self._index < len(self.points):
            following = self._input(self._registers, self._index)
        else:
            following = self._registers[self.plan["grid"][-1]]
            self._registers = {}
        following = following.to(sample.dtype)
        return PlanSchedulerOutput(following, denoised.to(sample.dtype)) if return_dict else (following,)

    def _denoised(self, output, state, level):
        """D(state; level) from the network's output."""
        if self.prediction == "sample":
            return output
        if self.prediction == "flow_prediction":
            return state * self._scale(level) - self._s(level) * output
        if self.prediction == "v_prediction":  # v = alpha e - sigma_vp x_0
            return state / (1 + level**2) - level / (1 + level**2) ** 0.5 * output
        return state - level * output
