"""Single files of Stable Diffusion in the original layout, against diffusers' networks and its own reader of them."""

import contextlib
import io
import unittest

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors.torch import load_file, save_file

from diffusers_support import (
    Case,
    below,
    decoder,
    denoised,
    original_openclip,
    original_unet,
    original_vae,
    padded,
    save_text,
    text_encoder,
    text_unet,
    texts,
)  # fmt: skip

SCHEDULER = {"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULER |= {"beta_schedule": "scaled_linear"}
WIDE = {"block_out_channels": (32, 64), "norm_num_groups": 32}
XL = {
    "cross_attention_dim": 40, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 12 + 48, "transformer_layers_per_block": (2, 1),
    "use_linear_projection": True,
}  # fmt: skip
HEADS = {"hidden_size": 16, "num_attention_heads": 2}


class SingleFiles(Case):
    """The options give the heads of small networks: 8 channels in the text encoders, 2 heads in the U-Net."""

    sizes = {"condition_head_channels": 8, "num_heads": 2, "resolution": 8}

    def unet(self, **options):
        blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 2}
        return text_unet(**WIDE, **(blocks | {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")} | options))

    def save(self, unet, encoders: dict, text_states: dict, marks: dict | None = None):
        """A single file; beside it the folder whose configs diffusers' reader takes."""
        vae = decoder(**WIDE)
        save_text(self.folder / "folder", {"unet": unet, "vae": vae, **encoders}, SCHEDULER, {})
        state = below("model.diffusion_model", original_unet(unet)) | below("first_stage_model", original_vae(vae))
        self.file = self.folder / "model.safetensors"
        state |= text_states | (marks or {})
        save_file({name: value.clone().contiguous() for name, value in state.items()}, self.file)
        self.unet_, self.vae = unet, vae
        self.check_our_file(encoders)

    def check_our_file(self, encoders: dict):
        """diffusers reads the same weights from it."""
        for kind, wanted, part in ((UNet2DConditionModel, self.unet_, "unet"), (AutoencoderKL, self.vae, "vae")):
            read = kind.from_single_file(str(self.file), config=str(self.folder / "folder"), subfolder=part)
            for name, value in wanted.state_dict().items():
                self.assertTrue(torch.equal(read.state_dict()[name], value), name)
        for part, wanted in encoders.items():
            read = create_diffusers_clip_model_from_ldm(
                type(wanted), load_file(self.file), subfolder=part, config=str(self.folder / "folder")
            )
            self.assert_close(read(texts()).last_hidden_state, wanted(texts()).last_hidden_state, 0)

    def opened(self, **options):
        with contextlib.redirect_stderr(io.StringIO()) as err:
            module, facts = self.read(self.file, **(self.sizes | options))
        self.said = err.getvalue()
        return module, facts

    def assert_denoises(self, module, states, prediction, **condition):
        sigma, x = module.noise.sigma(0.4), torch.randn(3, 4, 8, 8)
        expected = denoised(self.unet_, SCHEDULER, x, 399, prediction, **condition)
        self.assert_close(module(x, torch.full((3,), sigma), states), expected)

    def test_version_1_obeys_the_prediction_type(self):
        encoder = text_encoder()
        states = encoder(texts()).last_hidden_state
        self.save(self.unet(), {"text_encoder": encoder},
                  below("cond_stage_model.transformer.text_model", bare(encoder)))  # fmt: skip
        for option, prediction in ((None, "epsilon"), ("v_prediction", "v_prediction")):
            module, facts = self.opened(prediction_type=option)
            self.assertEqual((facts["text"], facts["sizes"]), ({"tokens": 77, "width": 16}, {"multiple": 2}))
            self.assert_close(module.encode_text(texts()), states)
            self.assert_denoises(module, states, prediction, encoder_hidden_states=states)
        z = torch.randn(2, 4, 8, 8)
        self.assert_close(module.decode(z), self.vae.decode(z / 0.18215).sample)
        for wrong in ("sample", "flow_prediction"):
            self.refused(f"--prediction_type {wrong}: single files", self.file, prediction_type=wrong)

    def test_version_2_reads_the_states_before_the_last_layer(self):
        encoder = text_encoder(hidden_act="gelu")
        states = encoder(padded(texts(), 0)).last_hidden_state
        self.save(self.unet(use_linear_projection=True), {"text_encoder": encoder},
                  below("cond_stage_model.model", original_openclip(encoder, last=True)))  # fmt: skip
        module, facts = self.opened()
        self.assertIn("v_prediction is taken", self.said)
        self.assert_close(module.encode_text(texts()), states)
        self.assert_denoises(module, states, "v_prediction", encoder_hidden_states=states)
        module, _ = self.opened(prediction_type="epsilon")
        self.assertNotIn("is taken, as of", self.said)
        self.assert_denoises(module, states, "epsilon", encoder_hidden_states=states)
        for option, resolution in ((None, 96), ("epsilon", 64)):
            self.assertEqual(self.opened(prediction_type=option, resolution=None)[1]["resolution"], resolution)

    def test_xl_joins_two_encoders_and_embeds_sizes(self):
        first = text_encoder()
        second = text_encoder(
            transformers.CLIPTextModelWithProjection, hidden_size=24, num_attention_heads=3, hidden_act="gelu"
        )
        text = below("conditioner.embedders.0.transformer.text_model", bare(first))
        text |= below("conditioner.embedders.1.model", original_openclip(second, last=False))
        one = first(texts(), output_hidden_states=True).hidden_states[-2]
        other = second(padded(texts(), 0), output_hidden_states=True)
        context = torch.cat([one, other.hidden_states[-2]], 2)
        added = {"text_embeds": other.text_embeds, "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 3)}
        self.save(self.unet(**XL), {"text_encoder": first, "text_encoder_2": second}, text)
        module, facts = self.opened()
        self.assertEqual(facts["text"], {"tokens": 77, "width": 40, "rows": 78, "unconditional": "zeros"})
        states = module.encode_text(texts())
        self.assert_close(states[:, :77], context)
        self.assert_close(states[:, 77, :12], other.text_embeds)
        self.assert_denoises(module, states, "epsilon", encoder_hidden_states=context, added_cond_kwargs=added)
        z = torch.randn(2, 4, 8, 8)
        self.assert_close(module.decode(z), self.vae.decode(z / 0.13025).sample)
        self.assertEqual(self.opened(resolution=None)[1]["resolution"], 128)
        save_file(load_file(self.file) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, self.file)
        module, facts = self.opened()
        self.assertNotIn("is taken, as of", self.said)
        self.assertLess(facts["noise"]["alphas_cumprod"][-1], 1e-7)
        self.assertFalse(module.predicts_noise)


def bare(encoder) -> dict[str, torch.Tensor]:
    return {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}


if __name__ == "__main__":
    unittest.main(warnings="ignore")
