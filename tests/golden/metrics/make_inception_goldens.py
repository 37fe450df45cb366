"""Features of the original programs with random weights: python make_inception_goldens.py TORCH_FIDELITY PYTORCH_FID

The arguments are source trees of toshas/torch-fidelity and mseitzer/pytorch-fid; torchvision must be there. Writes
inception.npz: every 16th of the 2048 features of the two pictures of tests/models/inception_support.py.
"""

import sys
import tempfile
from pathlib import Path

import numpy
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "models"), sys.argv[1], sys.argv[2] + "/src"]
from pytorch_fid import inception as pytorch_fid  # noqa: E402
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: E402

from inception_support import GOLDEN, pictures, random_weights  # noqa: E402


def main() -> None:
    weights, images = random_weights(), pictures()
    pytorch_fid.load_state_dict_from_url = lambda *arguments, **options: weights
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        torch.save(weights, Path(folder) / "weights.pth")
        fidelity = FeatureExtractorInceptionV3("inception", ["2048"], str(Path(folder) / "weights.pth"))
        original = {
            "inception": fidelity(images)[0],
            "inception-pytorch": pytorch_fid.InceptionV3([3]).eval()(images / 255)[0].flatten(1),
        }
    numpy.savez_compressed(GOLDEN, **{name: values[:, ::16].numpy() for name, values in original.items()})


if __name__ == "__main__":
    main()
