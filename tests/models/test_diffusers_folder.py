"""Folders that diffusers itself saved, in odd configurations, against diffusers and transformers."""

import json
import shutil
import unittest

import diffusers
import torch
import transformers

from diffusers_support import (
    Case,
    alphas_cumprod,
    decoder,
    denoised,
    padded,
    pixel_unet,
    save_text,
    spread,
    text_encoder,
    text_unet,
    texts,
)


class Schedules(Case):
    def test_noise_levels_are_those_of_every_scheduler(self):
        kinds = ("DDPM", "DDIM", "PNDM", "EulerDiscrete", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep", "LCM",
                 "KDPM2Discrete", "LMSDiscrete", "DEISMultistep", "EulerAncestralDiscrete", "TCD")  # fmt: skip
        for kind in kinds:
            for options in (
                {},
                {"beta_schedule": "scaled_linear", "beta_end": 0.012},
                {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
                {"trained_betas": [0.1, 0.2, 0.3]},
            ):
                scheduler = getattr(diffusers, kind + "Scheduler")(**options)
                config = json.loads(scheduler.to_json_string())
                expected = scheduler.alphas_cumprod
                with self.subTest(f"{kind} {options}"):
                    self.assert_close(alphas_cumprod(config), expected, 1e-6)
                    given = {key: value for key, value in config.items() if key in (*options, "_class_name")}
                    self.assert_close(alphas_cumprod(given), expected, 1e-6)  # an old config lacks the rest

    def test_sigmoid_betas_and_a_zero_terminal_snr(self):
        sigmoid = diffusers.DDPMScheduler(beta_schedule="sigmoid")
        self.assert_close(alphas_cumprod(dict(sigmoid.config)), sigmoid.alphas_cumprod, 1e-6)
        zero = diffusers.EulerDiscreteScheduler(rescale_betas_zero_snr=True, beta_schedule="scaled_linear")
        table = alphas_cumprod(json.loads(zero.to_json_string()))
        self.assert_close(table, zero.alphas_cumprod, 1e-5)
        self.assertEqual(float(table[-1]), 2.0**-24)
        linear = alphas_cumprod({"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": True})
        self.assertTrue(bool((linear.diff() < 0).all()) and 0 < float(linear[-1]) < 2.0**-24)


class PixelPipelines(Case):
    def test_denoised_images_are_those_of_diffusers_for_every_prediction_type(self):
        for prediction in ("epsilon", "v_prediction", "sample"):
            with self.subTest(prediction):
                shutil.rmtree(self.folder)
                unet = self.save_ddpm(prediction_type=prediction, num_train_timesteps=400)
                module, facts = self.read()
                scheduler = {"num_train_timesteps": 400}
                self.assertEqual((facts["resolution"], facts["channels"], facts["condition"]), (16, 3, "none"))
                for m in (0, 17, 250, 399):
                    sigma = module.time.noise.sigma((m + 1) / 400)
                    x = (1 + sigma) * torch.randn(2, 3, 16, 16)
                    expected = denoised(unet, scheduler, x, m, prediction)
                    actual = module(x, torch.full((2,), sigma))
                    self.assert_close(actual, expected)

    def test_the_option_rules_the_scheduler(self):
        unet = self.save_ddpm()
        module, _ = self.read(prediction_type="v_prediction")
        sigma = module.time.noise.sigma(0.5)
        x = sigma * torch.randn(1, 3, 16, 16)
        self.assert_close(module(x, torch.tensor([sigma])), denoised(unet, {}, x, 499, "v_prediction"))

    def test_every_form_of_the_weights_gives_the_same_network(self):
        unet = self.save_ddpm()
        x, sigma = torch.randn(1, 3, 16, 16), torch.tensor([1.0])
        expected = self.read()[0](x, sigma)
        forms = {
            "bin": {"safe_serialization": False},
            "shards": {"max_shard_size": "20KB"},
            "variant": {"variant": "fp16"},
            "variant shards": {"variant": "non_ema", "max_shard_size": "20KB"},
        }
        for name, form in forms.items():
            shutil.rmtree(self.folder / "unet")
            unet.save_pretrained(self.folder / "unet", **form)
            with self.subTest(name):
                self.assert_close(self.read()[0](x, sigma), expected, 0)
                self.assert_close(self.read(self.folder / "model_index.json")[0](x, sigma), expected, 0)
        with self.subTest("the network alone"):
            shutil.copy(self.folder / "scheduler/scheduler_config.json", self.folder / "unet")
            self.assert_close(self.read(self.folder / "unet")[0](x, sigma), expected, 0)
        with self.subTest("a cache of links"):
            cache = self.folder / "models--a--b"
            (cache / "blobs").mkdir(parents=True)
            (cache / "refs").mkdir()
            for i, file in enumerate([p for p in self.folder.rglob("*") if p.is_file()]):
                link = cache / "snapshots/abc" / file.relative_to(self.folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, cache / "blobs" / str(i))
                link.symlink_to(cache / "blobs" / str(i))
            self.assert_close(self.read(cache)[0](x, sigma), expected, 0)

    def test_flow_models_return_the_velocity(self):
        unet = self.save_ddpm()
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        scheduler.save_pretrained(self.folder / "scheduler")
        module, facts = self.read()
        self.assertEqual(facts["noise"], {"kind": "flow", "shift": 3.0})
        x = torch.randn(2, 3, 16, 16)
        self.assert_close(module(x, torch.tensor([0.3, 0.3])), unet(x, 300.0).sample)


class LatentPipelines(Case):
    def decoded(self, vae, scale=1 / 0.18215, shift=0.0):
        save_text(self.folder, {"unet": text_unet(cross_attention_dim=16), "vae": vae, "text_encoder": text_encoder()},
                  {"_class_name": "DDIMScheduler"}, {"tokenizer": "<|endoftext|>"})  # fmt: skip
        module, facts = self.read()
        z = torch.randn(2, 4, 8, 8)
        self.assert_close(module.decode(z), vae.decode(z * scale + shift).sample)
        return facts

    def test_decoders_in_odd_configurations(self):
        mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 0.5]
        vector = lambda values: torch.tensor(values)[:, None, None]  # noqa: E731
        cases = [
            ({}, 1 / 0.18215, 0.0),
            ({"scaling_factor": 0.5, "shift_factor": 0.25, "layers_per_block": 2}, 2.0, 0.25),
            ({"use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False}, 1 / 0.18215, 0),
            ({"latents_mean": mean, "latents_std": std}, vector(std) / 0.18215, vector(mean)),
            ({"block_out_channels": (4, 8, 12), "norm_num_groups": 2, "down_block_types": ("DownEncoderBlock2D",) * 3,
              "up_block_types": ("UpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D")}, 1 / 0.18215, 0),
        ]  # fmt: skip
        for options, scale, shift in cases:
            with self.subTest(str(options)):
                shutil.rmtree(self.folder)
                levels = len(options.get("up_block_types", "ab"))
                facts = self.decoded(decoder(**options), scale, shift)
                self.assertEqual(facts["latent"]["image_resolution"], 8 * 2 ** (levels - 1))

    def test_a_vector_quantised_pipeline(self):
        vqvae = spread(diffusers.VQModel(
            block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, num_vq_embeddings=40, scaling_factor=0.7), 5)  # fmt: skip
        pipeline = diffusers.LDMPipeline(vqvae=vqvae, unet=pixel_unet(), scheduler=diffusers.DDIMScheduler())
        pipeline.save_pretrained(self.folder)
        module, _ = self.read()
        z = torch.randn(2, 3, 16, 16)
        self.assert_close(module.decode(z), vqvae.decode(z / 0.7).sample)

    def test_old_names_of_attention(self):
        from safetensors.torch import load_file, save_file

        vae = decoder()
        self.decoded(vae)
        file = self.folder / "vae/diffusion_pytorch_model.safetensors"
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = load_file(file)
        for new, name in old.items():
            state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
        save_file(state, file)
        z = torch.randn(1, 4, 8, 8)
        self.assert_close(self.read()[0].decode(z), vae.decode(z / 0.18215).sample)


class TextPipelines(Case):
    def test_one_encoder_with_either_padding_and_activation(self):
        for act, pad, number in (("quick_gelu", "<|endoftext|>", 49407), ("gelu", "!", 0)):
            with self.subTest(act):
                shutil.rmtree(self.folder)
                encoder = text_encoder(hidden_act=act)
                unet = text_unet(use_linear_projection=act == "gelu")
                scheduler = {"_class_name": "PNDMScheduler", "prediction_type": "v_prediction", "skip_prk_steps": True}
                save_text(self.folder, {"unet": unet, "vae": decoder(), "text_encoder": encoder}, scheduler,
                          {"tokenizer": pad})  # fmt: skip
                module, facts = self.read()
                self.assertEqual(facts["text"], {"tokens": 77, "width": 16})
                states = encoder(padded(texts(), number)).last_hidden_state
                self.assert_close(module.encode_text(texts()), states)
                sigma = module.time.noise.sigma(0.4)
                x = sigma * torch.randn(3, 4, 8, 8)
                expected = denoised(unet, scheduler, x, 399, "v_prediction", encoder_hidden_states=states)
                self.assert_close(module(x, torch.full((3,), sigma), states), expected)

    def test_two_encoders_joined_with_the_pooled_state(self):
        for eos in (2, 49407):
            with self.subTest(eos):
                shutil.rmtree(self.folder)
                first = text_encoder()
                second = text_encoder(
                    transformers.CLIPTextModelWithProjection, hidden_size=24, hidden_act="gelu", eos_token_id=eos
                )
                unet = text_unet(
                    cross_attention_dim=40, addition_embed_type="text_time", addition_time_embed_dim=8,
                    projection_class_embeddings_input_dim=12 + 48, transformer_layers_per_block=(2, 1))  # fmt: skip
                parts = {"unet": unet, "vae": decoder(), "text_encoder": first, "text_encoder_2": second}
                save_text(self.folder, parts, {"_class_name": "EulerDiscreteScheduler"},
                          {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"})  # fmt: skip
                module, facts = self.read()
                self.assertEqual(facts["text"], {"tokens": 77, "width": 40, "rows": 78, "unconditional": "zeros"})
                one = first(texts(), output_hidden_states=True).hidden_states[-2]
                other = second(padded(texts(), 0), output_hidden_states=True)
                states = module.encode_text(texts())
                self.assert_close(states[:, :77], torch.cat([one, other.hidden_states[-2]], 2))
                self.assert_close(states[:, 77, :12], other.text_embeds)
                self.assertEqual(float(states[:, 77, 12:].abs().max()), 0)
                sigma, x = module.time.noise.sigma(0.4), torch.randn(3, 4, 8, 8)
                added = {"text_embeds": other.text_embeds, "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 3)}
                expected = denoised(unet, {}, x, 399, "epsilon", encoder_hidden_states=states[:, :77],
                                    added_cond_kwargs=added)  # fmt: skip
                self.assert_close(module(x, torch.full((3,), sigma), states), expected)


if __name__ == "__main__":
    unittest.main()
