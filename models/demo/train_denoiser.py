"""Train the demo denoiser with the EDM loss for a fixed number of minutes.

Usage: python train_denoiser.py emoji32.zip OUT_FOLDER [minutes], then python export.py --source OUT_FOLDER/ema.pt
Loss and noise distribution: Karras et al. 2022, Table 1 (ln sigma ~ N(-1.2, 1.2^2)). Learning rate: linear warm-up,
cosine to zero over the time budget. Writes OUT_FOLDER/ema.pt (averaged weights) and OUT_FOLDER/training_log.jsonl.
"""

import copy
import json
import math
import sys
import time
from pathlib import Path

import torch
from dataset import read
from torch import Tensor, nn
from torch.nn import functional as F

from export import LABEL_DIM, make_network, state_of

BATCH, PEAK_RATE, WARM_UP_STEPS, LABEL_DROPOUT, SIGMA_DATA = 64, 1.5e-3, 300, 0.1, 0.5


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to two pixels, filling with white."""
    size = images.shape[-1]
    padded = F.pad(images, (2, 2, 2, 2), value=1.0)
    dy, dx = torch.randint(0, 5, (2, len(images)), generator=generator)
    return torch.stack([p[:, y : y + size, x : x + size] for p, y, x in zip(padded, dy, dx)])


def edm_loss(denoiser: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """lambda(sigma) |D(y + n; sigma) - y|^2 in the mean, with one in ten labels dropped."""
    labels = labels * (torch.rand(len(images), 1, generator=generator) > LABEL_DROPOUT)
    sigma = torch.exp(-1.2 + 1.2 * torch.randn(len(images), generator=generator))
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    noisy = images + sigma[:, None, None, None] * torch.randn(images.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        denoised = denoiser(noisy, sigma, labels)
    return (weight[:, None, None, None] * (denoised.float() - images) ** 2).mean()


def main(data: str, out_folder: str, minutes: str = "100") -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    out = Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    images, labels = (torch.from_numpy(array) for array in read(data))
    images, labels = images.float() / 127.5 - 1, F.one_hot(labels, LABEL_DIM).float()
    denoiser = make_network().to(memory_format=torch.channels_last)
    average = copy.deepcopy(denoiser)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99))
    start, budget, step, losses = time.time(), float(minutes) * 60, 0, []
    with open(out / "training_log.jsonl", "a") as log:
        while (elapsed := time.time() - start) < budget:
            index = torch.randint(len(images), (BATCH,), generator=generator)
            batch = augment(images[index], generator).contiguous(memory_format=torch.channels_last)
            loss = edm_loss(denoiser, batch, labels[index], generator)
            rate = PEAK_RATE * min(1, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * elapsed / budget))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
            optimizer.step()
            decay = min(0.9995, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, value in zip(average.parameters(), denoiser.parameters()):
                    mean.lerp_(value, 1 - decay)
            step += 1
            losses.append(loss.item())
            if step % 200 == 0:
                record = dict(
                    step=step, kimg=step * BATCH / 1000, minutes=elapsed / 60, loss=sum(losses) / len(losses), lr=rate
                )
                log.write(json.dumps(record) + "\n")
                log.flush()
                losses.clear()
            if step % 2000 == 0:
                torch.save(state_of(average), out / "ema.pt")
    torch.save(state_of(average), out / "ema.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
