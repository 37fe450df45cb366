"""The Inception network of the Frechet distance (2015-12-05), as a detector: images uint8 or float [N, 3, H, W] in
[0, 255] -> float32 features [N, 2048], differentiable from float images.

The architecture is Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", with TensorFlow's
average pools (padding does not count) and a max pool in the last block, up to the global average pool. There are two
ways to the network's 299 x 299 input, and distances differ by a few percent between them:

    inception           TensorFlow 1's bilinear resize, then (x - 128) / 128: EDM, StyleGAN, torch-fidelity
    inception-pytorch   bilinear with half-pixel centres, then 2 x / 255 - 1: pytorch-fid

Names of layers and parameters are those of pytorch-fid's weights file, whose classifier (`fc`) is not needed.
"""

import os
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import contract
import registry
import safe_load
from download import Download, sha256_of
from progress import DownloadProgress
from scratch import scratch_folder
from state_dict import StateDict, load_strictly

WEIGHTS = registry.SourceFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
WEIGHTS_SHA256_START = "6726825d"  # the part of the hash that the published name tells
NAMES = ("inception", "inception-pytorch")


class Unit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; "same" padding unless the stride shrinks the image."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True):
        super().__init__()
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (height // 2, width // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def average_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 x 35: 1x1, 5x5 and twice 3x3 side by side with a pool."""

    def __init__(self, inputs: int, pooled: int):
        super().__init__()
        self.branch1x1 = Unit(inputs, 64, 1)
        self.branch5x5_1 = Unit(inputs, 48, 1)
        self.branch5x5_2 = Unit(48, 64, 5)
        self.branch3x3dbl_1 = Unit(inputs, 64, 1)
        self.branch3x3dbl_2 = Unit(64, 96, 3)
        self.branch3x3dbl_3 = Unit(96, 96, 3)
        self.branch_pool = Unit(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average_pool(x))], 1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3 = Unit(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Unit(inputs, 64, 1)
        self.branch3x3dbl_2 = Unit(64, 96, 3)
        self.branch3x3dbl_3 = Unit(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), twice, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17 x 17: 7x7 kernels as rows and columns."""

    def __init__(self, inputs: int, inner: int):
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Unit(inputs, 192, 1)
        self.branch7x7_1 = Unit(inputs, inner, 1)
        self.branch7x7_2 = Unit(inner, inner, row)
        self.branch7x7_3 = Unit(inner, 192, column)
        self.branch7x7dbl_1 = Unit(inputs, inner, 1)
        self.branch7x7dbl_2 = Unit(inner, inner, column)
        self.branch7x7dbl_3 = Unit(inner, inner, row)
        self.branch7x7dbl_4 = Unit(inner, inner, column)
        self.branch7x7dbl_5 = Unit(inner, 192, row)
        self.branch_pool = Unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(average_pool(x))], 1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3_1 = Unit(inputs, 192, 1)
        self.branch3x3_2 = Unit(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Unit(inputs, 192, 1)
        self.branch7x7x3_2 = Unit(192, 192, (1, 7))
        self.branch7x7x3_3 = Unit(192, 192, (7, 1))
        self.branch7x7x3_4 = Unit(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        three = self.branch3x3_2(self.branch3x3_1(x))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8 x 8: 3x3 kernels split into rows and columns. The pool is an average, or the last block's maximum."""

    def __init__(self, inputs: int, max_pool: bool):
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.max_pool = max_pool
        self.branch1x1 = Unit(inputs, 320, 1)
        self.branch3x3_1 = Unit(inputs, 384, 1)
        self.branch3x3_2a = Unit(384, 384, row)
        self.branch3x3_2b = Unit(384, 384, column)
        self.branch3x3dbl_1 = Unit(inputs, 448, 1)
        self.branch3x3dbl_2 = Unit(448, 384, 3)
        self.branch3x3dbl_3a = Unit(384, 384, row)
        self.branch3x3dbl_3b = Unit(384, 384, column)
        self.branch_pool = Unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, kernel_size=3, stride=1, padding=1) if self.max_pool else average_pool(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once)]
        parts += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice), self.branch_pool(pooled)]
        return torch.cat(parts, 1)


def resize_axis(x: Tensor, axis: int, size: int) -> Tensor:
    """TensorFlow 1's bilinear resize along one axis: output i takes its value at i * old / new; no half pixels."""
    old = x.shape[axis]
    position = torch.arange(size, dtype=torch.float32, device=x.device) * (old / size)
    low = position.long()
    high = (low + 1).clamp(max=old - 1)
    weight = position - low
    if axis == 2:
        weight = weight.unsqueeze(1)
    before = x.index_select(axis, low)
    return before + (x.index_select(axis, high) - before) * weight


class Inception(nn.Module):
    """The detector; `half_pixel` chooses pytorch-fid's way to the input."""

    def __init__(self, half_pixel: bool):
        super().__init__()
        self.half_pixel = half_pixel
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, padded=False)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, max_pool=False)
        self.Mixed_7c = BlockE(2048, max_pool=True)

    def prepare(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 255] to the network's [N, 3, 299, 299] in [-1, 1]."""
        x = images.to(torch.float32)
        if self.half_pixel:
            return 2 * F.interpolate(x / 255, size=[299, 299], mode="bilinear", align_corners=False) - 1
        return (resize_axis(resize_axis(x, 3, 299), 2, 299) - 128) / 128

    def forward(self, images: Tensor) -> Tensor:
        x = self.prepare(images)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=[2, 3])


def read_inception(weights: Path, name: str) -> Inception:
    """The network with all weights of pytorch-fid's file. Raises ValueError where they do not fit."""
    tensors = safe_load.load(weights)
    if not isinstance(tensors, dict):
        raise ValueError(f"{weights} is no file of weights by name")
    # The classifier is not part of the detector; batch counters play no part, and some copies of the file lack them.
    with torch.device("meta"):
        module = Inception(half_pixel=name == "inception-pytorch")
    entries = {key: torch.zeros(()) for key in module.state_dict() if key.endswith(".num_batches_tracked")}
    entries |= {key: value for key, value in tensors.items() if not key.startswith("fc.")}
    return load_strictly(module, StateDict(entries))


def is_torchscript(path: Path) -> bool:
    """Whether the file is TorchScript already, as NVIDIA's inception-2015-12-05.pt."""
    if not safe_load.is_zip(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/", 1)[-1].startswith("code/") for name in archive.namelist())


def detector_path(name: str) -> Path:
    """Where the exported detector lives."""
    return registry.cache_folder() / "models" / name / f"{name}.ts"


def fetch_weights() -> Path:
    """pytorch-fid's weights file, fetched where it is missing and held against the hash in its name."""
    dest = registry.cache_folder() / "checkpoints" / "inception" / WEIGHTS.name
    path = Download(WEIGHTS.url, dest, WEIGHTS.sha256, WEIGHTS.bytes, DownloadProgress(WEIGHTS.name)).run()
    if not sha256_of(path).startswith(WEIGHTS_SHA256_START):
        raise ValueError(f"{path} is not the published file: its SHA-256 should begin with {WEIGHTS_SHA256_START}")
    return path


def export(name: str, source: Path | None = None, dest: Path | None = None) -> Path:
    """Write the detector `name`. `source` is pytorch-fid's weights file, or NVIDIA's TorchScript (taken as it is)."""
    dest = dest or detector_path(name)
    source = source or fetch_weights()
    dest.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".export-", dest.parent) as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        unfinished = folder / dest.name
        if is_torchscript(source):
            if name != "inception":
                raise ValueError(f"{source} is TorchScript with its own resize: it is `inception`, not `{name}`")
            unfinished.write_bytes(source.read_bytes())
        else:
            save(read_inception(source, name), unfinished)
        os.replace(unfinished, dest)
    return dest


def save(module: Inception, path: Path) -> None:
    """Script the network, hold it against the eager one on two pictures, and save it."""
    module = module.eval().requires_grad_(False)
    scripted = torch.jit.script(module)
    pictures = torch.randint(256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = contract.relative_error(scripted(pictures), module(pictures))
    if not error <= contract.TOLERANCE:
        raise ValueError(f"the scripted network differs from the eager one by {error:.2e}: not written")
    whole = path.with_suffix(".whole")
    scripted.save(str(whole))
    contract.copy_without_debug_records(whole, path)
    whole.unlink()
