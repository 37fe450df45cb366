"""DiT folders of diffusers, of both classes, against diffusers."""

import contextlib
import io
import json
import unittest

import diffusers
import torch

from diffusers_support import Case, decoder, denoised, spread

TINY = {
    "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2, "sample_size": 8,
    "num_embeds_ada_norm": 5,
}  # fmt: skip
OLD = {"patch_size": 2, "norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate"}
CASES = [
    ("DiTTransformer2DModel", {"out_channels": 8}),
    ("DiTTransformer2DModel", {"patch_size": 4, "num_attention_heads": 3, "attention_bias": False, "norm_eps": 1e-3}),
    ("DiTTransformer2DModel", {"patch_size": 1, "num_layers": 1, "activation_fn": "gelu"}),
    ("Transformer2DModel", OLD | {"out_channels": 8, "norm_elementwise_affine": False, "attention_bias": True}),
    ("Transformer2DModel", OLD | {"interpolation_scale": 1.5, "activation_fn": "geglu"}),
    ("Transformer2DModel", OLD | {"sample_size": 128, "patch_size": 16, "num_layers": 1}),
]


class Transformers(Case):
    def save(self, name="DiTTransformer2DModel", **options):
        torch.manual_seed(0)
        network = spread(getattr(diffusers, name)(**(TINY | options)), 1)
        for block in network.transformer_blocks:  # each has embeddings of its own
            spread(block, 2)
        self.vae = decoder()
        parts = {"transformer": network, "vae": self.vae}
        for part, module in parts.items():
            module.save_pretrained(self.folder / part)
        diffusers.DDIMScheduler().save_pretrained(self.folder / "scheduler")
        index = {part: ["diffusers", type(module).__name__] for part, module in parts.items()}
        index |= {"_class_name": "DiTPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
        (self.folder / "model_index.json").write_text(json.dumps(index))
        return network

    def edit(self, **changes):
        path = self.folder / "transformer/config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def test_denoised_latents_are_those_of_diffusers(self):
        for name, options in CASES:
            with self.subTest(f"{name} {options}"):
                network = self.save(name, **options)
                module, facts = self.read()
                size = options.get("sample_size", 8)
                given = (facts["resolution"], facts["label_dim"], facts["label_format"])
                self.assertEqual(given, (size, 5, "onehot"))
                original = lambda x, time, network=network, **more: network(x, timestep=time, **more)
                labels = torch.tensor([3, 0, 5])  # the last is the null class
                one_hot = torch.nn.functional.one_hot(labels, 6)[:, :5].float()
                for m in (7, 612):
                    sigma, x = module.time.noise.sigma((m + 1) / 1000), torch.randn(3, 4, size, size)
                    expected = denoised(
                        original, {}, (1 + sigma) * x, torch.tensor([m]), "epsilon", class_labels=labels
                    )
                    self.assert_close(module((1 + sigma) * x, torch.full((3,), sigma), one_hot), expected)

    def test_missing_keys_have_the_defaults_of_the_class(self):
        network = self.save(norm_eps=1e-5, patch_size=2)
        path = self.folder / "transformer/config.json"
        kept = {*TINY, "_class_name"}
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key in kept}))
        module, _ = self.read()
        x, labels = torch.randn(2, 4, 8, 8), torch.tensor([1, 2])
        expected = network(x, torch.tensor([400]), class_labels=labels).sample
        one_hot = torch.nn.functional.one_hot(labels, 5).float()
        self.assert_close(module.network(x, torch.full((2,), 400.0), one_hot), expected)

    def test_a_transformer_alone_takes_the_autoencoder_as_a_second_source(self):
        network = self.save()
        alone, vae = self.folder / "transformer", self.folder / "vae"
        with contextlib.redirect_stderr(io.StringIO()):
            module, facts = self.read(alone, more=[vae], resolution=4)
        self.assertEqual((facts["resolution"], facts["latent"]["image_resolution"]), (4, 8))
        z = torch.randn(2, 4, 4, 4)
        self.assert_close(module.decode(z), self.vae.decode(z / 0.18215).sample)
        expected = network(z, torch.tensor([9]), class_labels=torch.tensor([5, 5])).sample  # resized positions
        self.assert_close(module.network(z, torch.full((2,), 9.0), torch.zeros(2, 5)), expected)
        self.refused("has its own vae", more=[vae])

    def test_other_transformers_are_refused(self):
        for changes, pattern in (
            ({"norm_type": "ada_norm_single"}, "norm_type 'ada_norm_single'"),
            ({"caption_channels": 4096}, "caption_channels 4096"),
            ({"num_vector_embeds": 9}, "num_vector_embeds 9"),
            ({"patch_size": 3}, "patch_size 3 of the config does not divide"),
            ({"patch_size": None}, "patch_size None"),
            ({"num_embeds_ada_norm": None}, "num_embeds_ada_norm None"),
            ({"num_attention_heads": "2"}, "num_attention_heads '2'"),
            ({"num_attention_heads": 3}, "is .* instead of"),
            ({"num_layers": 3}, "lacks transformer_blocks.2"),
            ({"activation_fn": "swiglu"}, "activation_fn 'swiglu'"),
            ({"norm_eps": "x"}, "norm_eps 'x'"),
            ({"interpolation_scale": 0}, "interpolation_scale 0"),
            ({"in_channels": None}, "in_channels None of the config"),
        ):
            with self.subTest(pattern):
                self.save("Transformer2DModel", **OLD)
                self.edit(**changes)
                self.refused(pattern)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
