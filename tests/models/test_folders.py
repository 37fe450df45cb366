"""A diffusers folder without diffusers: it computes what diffusers did, and broken ones are refused in one line."""

import contextlib
import io
import json
import math
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from latent_support import DTYPES, GOLDEN, ROOT, save_safetensors

sys.path.insert(0, str(ROOT / "models"))
import contract  # noqa: E402
import export  # noqa: E402
from export import Sizes  # noqa: E402

DTYPES |= {torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3"}
WEIGHTS, INDEX = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"
CONFIG, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"


def golden() -> tuple[dict, dict[str, torch.Tensor], torch.Tensor]:
    """Config and weights of a UNet2DModel, and what diffusers' made of the inputs of test_diffusers_unet.py."""
    stored = np.load(GOLDEN / "diffusers_unets.npz")
    shapes = json.loads(str(stored["plain.shapes"]))
    pieces = torch.from_numpy(stored["plain.weights"]).float().split([math.prod(shape) for shape in shapes.values()])
    state = {key: piece.reshape(shape) for (key, shape), piece in zip(shapes.items(), pieces)}
    return json.loads(str(stored["plain.config"])), state, torch.from_numpy(stored["plain.output"])


def edited(file: str, **changes):
    """A function that changes values of a JSON file in a folder; None takes the key away."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return edit


def written(file: str, content: str):
    return lambda folder: (folder / file).write_text(content)


def weights(change):
    """A function that writes other weights: change(state) -> state."""
    return lambda folder: save_safetensors(folder / "unet" / WEIGHTS, change(golden()[1]))


def one(convert):
    return weights(lambda state: state | {"conv_in.weight": convert(state["conv_in.weight"])})


def sharded(change=lambda index: None, missing=False):
    """A function that puts the weights into two shards; change(weight_map) edits the index."""

    def split(folder: Path) -> None:
        state, unet = golden()[1], folder / "unet"
        (unet / WEIGHTS).unlink()
        places = {name: f"{i % 2}.safetensors" for i, name in enumerate(state)}
        for shard in set(places.values()):
            save_safetensors(unet / shard, {name: state[name] for name in state if places[name] == shard})
        change(places)
        (unet / INDEX).write_text(json.dumps({"weight_map": places}))
        if missing:
            (unet / "1.safetensors").unlink()

    return split


def cut(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-10])


BROKEN = [
    (sharded(missing=True), "names the shard 1.safetensors, which is missing"),
    (sharded(lambda places: places.update({"conv_in.weight": "1.safetensors"})), "does not fit 0.safetensors"),
    (sharded(lambda places: places.pop("conv_in.weight")), "not in the index conv_in.weight"),
    (sharded(lambda places: places.update(more="0.safetensors")), "not there more"),
    *(
        (sharded(lambda places, wrong=wrong: places.update({"conv_in.weight": wrong})), "outside its folder")
        for wrong in ("../x.safetensors", "/etc/passwd", "a/../../b", "..")
    ),
    (sharded(lambda places: places.clear()), "no weight_map"),
    (written(f"unet/{INDEX}", "[]"), None),  # beside whole weights nobody reads it
    (cut, f"unet/{WEIGHTS}.*damaged"),
    (written(f"unet/{WEIGHTS}", ""), f"unet/{WEIGHTS}.*empty file"),
    (written(f"unet/{WEIGHTS}", "version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
    (one(lambda value: value.to(torch.float8_e4m3fn)), "conv_in.weight is of F8_E4M3"),
    (one(lambda value: value.to(torch.int8)), "conv_in.weight is of int8"),
    (one(lambda value: value.long()), "conv_in.weight is of int64"),
    (one(lambda value: value[None]), r"conv_in.weight is \[1, 4, 3, 3, 3\] instead of"),
    (one(lambda value: torch.zeros(3)), r"conv_in.weight is \[3\] instead of"),
    (one(lambda value: value[0, 0, 0, 0]), r"conv_in.weight is \[\] instead of"),
    (one(lambda value: value * math.nan), "conv_in.weight has .* not finite"),
    (weights(lambda state: {k: v for k, v in state.items() if k != "conv_in.weight"}), "lacks conv_in.weight"),
    (weights(lambda state: state | {"x": torch.zeros(1)}), "surplus x"),
    (weights(lambda state: {"a.lora_A.weight": torch.zeros(1)}), "LoRA"),
    (written(CONFIG, "{"), f"{CONFIG} is not valid JSON"),
    (written(CONFIG, "[1]"), f"{CONFIG} holds no JSON object"),
    (written(CONFIG, ""), f"{CONFIG} is not valid JSON"),
    (edited(CONFIG, _class_name="UNet3DConditionModel"), "says that unet is a UNet2DModel"),
    (edited(CONFIG, _class_name=["UNet2DModel"]), "UNet2DModel"),
    (edited(CONFIG, in_channels="3"), "in_channels '3'"),
    (edited(CONFIG, out_channels=4), "takes 3 channels and makes 4"),
    (edited(CONFIG, in_channels=9, out_channels=4), "an inpainting model"),
    (edited(CONFIG, sample_size=None), "give --resolution"),
    (edited(CONFIG, in_channels=8), "a network that sees an image"),
    (edited(CONFIG, sample_size="8"), "sample_size 8: give --resolution"),
    (edited(CONFIG, block_out_channels="8"), "block_out_channels '8'"),
    (edited(CONFIG, block_out_channels=[4, "4"]), r"block_out_channels \[4, '4'\]"),
    (edited(CONFIG, norm_num_groups=True), "norm_num_groups True"),
    (edited(CONFIG, norm_eps="tiny"), "norm_eps 'tiny'"),
    (edited(CONFIG, layers_per_block=2), "lacks down_blocks"),
    (lambda folder: (folder / SCHEDULER).unlink(), "scheduler_config.json is missing"),
    (written(SCHEDULER, "null"), f"{SCHEDULER} holds no JSON object"),
    (edited(SCHEDULER, beta_start="x"), "scheduler.*'x'"),
    (edited(SCHEDULER, num_train_timesteps=0), "scheduler.*no falling table"),
    (edited(SCHEDULER, num_train_timesteps=[9]), "scheduler"),
    (edited(SCHEDULER, beta_schedule="laplace"), "beta_schedule 'laplace'"),
    (edited(SCHEDULER, prediction_type="score"), "prediction_type 'score'"),
    (edited(SCHEDULER, _class_name="EDMEulerScheduler"), "EDMEulerScheduler is not supported"),
    (edited(SCHEDULER, trained_betas=[0.1, -0.2]), "no falling table"),
    (edited(SCHEDULER, prediction_type=3), "prediction_type 3"),
    (edited("model_index.json", _class_name="StableDiffusionInpaintPipeline"), "an inpainting model"),
    (edited("model_index.json", _class_name="StableDiffusionControlNetPipeline"), "a control network"),
    (edited("model_index.json", unet=["diffusers", "UNet2DConditionModel"]), "says that unet is a UNet2DCond"),
    (edited("model_index.json", unet=3), r"should be \[library, class\]"),
    (edited("model_index.json", requires_aesthetics_score=True), "the refiner"),
    (edited("model_index.json", unet=["diffusers", "FluxTransformer2DModel"]), "FluxTransformer2DModel"),
    (edited("model_index.json", unet=None), "has no unet and no transformer"),
    (written("model_index.json", "{]"), "model_index.json is not valid JSON"),
    (lambda folder: shutil.rmtree(folder / "unet"), "missing"),
    (lambda folder: (folder / "unet" / WEIGHTS).unlink(), "holds no weights"),
]


class Folders(unittest.TestCase):
    def setUp(self):
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.folder = self.root / "source"

    def save(self) -> torch.Tensor:
        config, state, output = golden()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "unet").mkdir(parents=True)
        (self.folder / "scheduler").mkdir()
        index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
        (self.folder / "model_index.json").write_text(json.dumps(index))
        (self.folder / CONFIG).write_text(json.dumps(config | {"sample_size": 8}))
        (self.folder / SCHEDULER).write_text(json.dumps({"_class_name": "DDPMScheduler"}))
        save_safetensors(self.folder / "unet" / WEIGHTS, state)
        return output

    def test_a_folder_computes_what_diffusers_did(self):
        expected = self.save()
        path = export.export("my-model", [self.folder], self.root / "out/denoiser.ts", Sizes())
        torch.manual_seed(7)
        x, time = torch.randn(2, 3, 8, 12), torch.tensor([3.25, 871.5])
        model = torch.jit.load(path)
        self.assertLessEqual(contract.relative_error(model.network(x, time, None), expected), 1e-5)
        sigma = torch.tensor([0.5, 20.0])
        view = sigma[:, None, None, None]
        with torch.no_grad():
            noise = model.network(x / (1 + view**2).sqrt(), model.time(sigma), None)
            self.assertLessEqual(contract.relative_error(model(x, sigma, None), x - view * noise), 1e-5)

    def test_shards_give_the_same_network(self):
        self.save()
        whole = export.read_model("my-model", [self.folder])[0].state_dict()
        sharded()(self.folder)
        shards = export.read_model("my-model", [self.folder])[0].state_dict()
        self.assertTrue(all(torch.equal(shards[name], value) for name, value in whole.items()))

    def test_broken_folders_are_refused_in_one_line_and_leave_nothing(self):
        for i, (change, pattern) in enumerate(BROKEN):
            with self.subTest(f"{i} {pattern}"):
                self.save()
                change(self.folder)
                if pattern is None:
                    export.read_model("my-model", [self.folder])
                    continue
                with self.assertRaisesRegex(ValueError, pattern) as caught:
                    export.export("my-model", [self.folder], self.root / "out/denoiser.ts", Sizes())
                message = str(caught.exception)
                self.assertNotIn("\n", message)
                self.assertLess(len(message), 1000)
                self.assertIn(str(self.folder), message)
                self.assertFalse((self.root / "out").exists())

    def test_adapters_and_variants(self):
        self.save()
        unet, read = self.folder / "unet", lambda source=self.folder, **options: export.read_model(
            "my-model", [source], Sizes(**options))  # fmt: skip
        plain = (unet / WEIGHTS).rename(unet / "diffusion_pytorch_model.fp16.safetensors")
        read()  # the one variant that is there
        shutil.copy(plain, unet / "diffusion_pytorch_model.other.safetensors")
        with self.assertRaisesRegex(ValueError, "the variants fp16, other alone: give --variant"):
            read()
        read(variant="fp16")
        with self.assertRaisesRegex(ValueError, "neither model_index.json nor config.json"):
            read(self.folder / "scheduler")
        for file in unet.glob("*.safetensors"):
            file.unlink()
        (unet / "pytorch_lora_weights.safetensors").touch()
        with self.assertRaisesRegex(ValueError, "LoRA"):
            read()

    def test_files_of_other_kinds_are_called_by_their_name(self):
        for names, pattern in (
            (["lora_unet_down_blocks_0_attentions_0.lora_down.weight"], "LoRA"),
            (["control_model.input_blocks.0.0.weight"], "a control network"),
            (["down_blocks.0.resnets.0.conv1.weight"], "give its folder"),
            (["model.diffusion_model.out.2.bias", "conditioner.embedders.0.model.ln_final.bias"], "the refiner"),
            (["something.else"], "tells no family"),
        ):
            file = self.root / "a.safetensors"
            save_safetensors(file, {name: torch.zeros(2) for name in names})
            with self.subTest(pattern), contextlib.redirect_stderr(io.StringIO()):
                with self.assertRaisesRegex(ValueError, pattern):
                    export.read_model("my-model", [file])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
