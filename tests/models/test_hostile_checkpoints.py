"""Hostile checkpoints of EDM2, DiT and SiT through the command: one line that names weight and file, and no litter."""

import pickle
import unittest

import torch

import latent_support
from pixel_support import Pickled, persistent, write_pickle
from test_transformers import TransformerTest, golden_of

# isort: split
from state_dict import StateDict, state_of


class Hostile(TransformerTest):
    WEIGHTS = (  # what becomes of a weight -> what is said of it
        (lambda _: None, "lacks "),
        (lambda w: w[None, None], "is "),
        (lambda w: torch.cat([w, w]), "is "),
        (lambda w: w.long(), "is of int64, not floating-point"),
        (lambda w: w.to(torch.complex64), "is of complex64, not floating-point"),
        (lambda w: torch.full_like(w, torch.nan), "values that are not finite"),
        (lambda w: torch.cat([w[:-1], w[-1:] / 0]), "of [0-9]+ values that are not finite"),
    )

    def edm2_file(self, name, golden="pixel", **changes):
        """A pickle of EDM2 with these weights changed."""
        record = golden_of(f"edm2_{golden}").pickled()["ema"].state
        unet = record["_modules"]["unet"]
        weights = {key: value for key, value in (state_of(unet) | changes).items() if value is not None}
        inner = persistent("UNet", {"_init_kwargs": unet.state["_init_kwargs"], "_parameters": weights})
        outer = persistent("Precond", record | {"_modules": {"unet": inner}})
        return write_pickle({"ema": outer}, self.folder / f"{name}.pkl")

    def assert_weights_are_checked(self, weights, saved, *names):
        """`saved` writes a file with changed weights, and exports; `names` are weights of this state dict."""
        for name in names:
            for change, said in self.WEIGHTS:
                file, line = saved({name: change(weights[name])})
                with self.subTest(name, said=said):
                    self.assertRegex(
                        line, f"{file.name}: .*" + (said + name if said == "lacks " else f"{name} .*{said}")
                    )
        file, line = saved({"more.weight": torch.ones(2, 2)})
        self.assertRegex(line, f"{file.name}: .*surplus more.weight")

    def test_weights_of_transformers(self):
        weights, decoder = golden_of("dit").weights(), self.decoder()
        for family in ("dit", "sit"):

            def saved(changes, family=family):
                kept = {key: value for key, value in (weights | changes).items() if value is not None}
                file = self.saved(family, kept)
                return file, self.refused("own", "--source", file, decoder, "--family", family, "--num_heads", 6)

            names = "blocks.1.attn.qkv.weight", "t_embedder.mlp.2.weight", "final_layer.linear.bias"
            self.assert_weights_are_checked(weights, saved, *names)

    def test_weights_of_edm2(self):
        weights = state_of(golden_of("edm2_pixel").pickled()["ema"].state["_modules"]["unet"])

        def saved(changes):
            file = self.edm2_file("net", **changes)
            return file, self.refused("own", "--source", file)

        self.assert_weights_are_checked(weights, saved, "enc.16x16_conv.weight", "emb_noise.weight", "out_conv.weight")
        for name in ("out_gain", "emb_fourier.freqs"):
            self.assertRegex(saved({name: weights[name] * torch.nan})[1], f"net.pkl: {name} .* not finite")

    def test_weights_of_the_decoder(self):
        weights = StateDict(latent_support.Golden("sd").state).under("first_stage_model").entries
        model = self.saved("dit", golden_of("dit").weights())

        def saved(changes):
            kept = {key: value for key, value in (weights | changes).items() if value is not None}
            file = self.saved("vae", kept)
            return file, self.refused("own", "--source", model, file, "--family", "dit", "--num_heads", 6)

        self.assert_weights_are_checked(weights, saved, "decoder.mid.block_1.conv1.weight", "post_quant_conv.bias")

    def test_files_that_are_something_else(self):
        golden, decoder = golden_of("dit"), self.decoder()
        dit_file, edm2_file = self.saved("dit", golden.weights()), self.edm2_file("net")
        cut, page, wild = (self.folder / name for name in ("cut", "page", "wild"))
        page.write_text("<!DOCTYPE html><html></html>")
        wild.write_bytes(pickle.dumps({"ema": Pickled("os", "getcwd"), "x_embedder.proj.weight": torch.ones(1)}))
        edm1 = write_pickle({"ema": persistent("EDMPrecond", {})}, self.folder / "edm1.pkl")
        for family, good, more in (("dit", dit_file, [decoder]), ("sit", dit_file, [decoder]), ("edm2", edm2_file, [])):
            cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
            other = edm2_file if family != "edm2" else dit_file
            for file, said in (
                (cut, "damaged or not a checkpoint"),
                (page, "a web page"),
                (wild, "calls .*getcwd"),
                (other, "expected "),
                (edm1, "expected "),
                (decoder, "x_embedder|Precond"),
            ):
                with self.subTest(family, file=file.name):
                    line = self.refused("own", "--source", file, *more, "--family", family, "--num_heads", 6)
                    self.assertRegex(line, f"{file.name}: .*{said}")
        for file, said in ((page, "a web page"), (wild, "calls"), (edm2_file, "expected a state dict")):
            with self.subTest("decoder", file=file.name):
                line = self.refused("own", "--source", dit_file, file, "--family", "dit", "--num_heads", 6)
                self.assertRegex(line, f"{file.name}: .*{said}")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
