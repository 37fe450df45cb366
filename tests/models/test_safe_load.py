"""Checkpoints are read as data: what torch wrote comes back, and what a file wants to run is refused."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
import unittest
import zipfile
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy
import torch

from latent_support import save_safetensors
from pixel_support import Golden, Pickled, module_with, persistent

# isort: split
import safe_load
from archive import load_checkpoint, load_content
from safe_load import Record
from state_dict import state_of


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class WhatTorchWrote(Folder):
    def written(self, content, **options):
        path = self.folder / "file.pt"
        torch.save(content, path, **options)
        return safe_load.load(path)

    def test_tensors_come_back_from_both_torch_formats(self):
        shared = torch.arange(12.0)
        content = OrderedDict(
            plain=torch.randn(3, 4),
            transposed=torch.randn(3, 4).t(),
            view=shared[2:6].reshape(2, 2),
            whole=shared,
            half=torch.randn(5).half(),
            brain=torch.randn(5).bfloat16(),
            numbers=torch.tensor(7),
            flags=torch.tensor([True, False]),
            empty=torch.zeros(0, 3),
            parameter=torch.nn.Parameter(torch.ones(2)),
        )
        for zipped in (True, False):
            with self.subTest(zipped=zipped):
                read = self.written(content, _use_new_zipfile_serialization=zipped)
                self.assertEqual(list(read), list(content))
                for name, value in content.items():
                    self.assertEqual(read[name].dtype, value.dtype)
                    self.assertTrue(torch.equal(read[name], value), name)
                self.assertFalse(read["parameter"].requires_grad)

    def test_names_and_shapes_are_read_without_the_weights(self):
        whole = {"a": torch.randn(3, 4), "b": torch.randn(6).half()[2:4]}
        torch.save({"state_dict": whole}, self.folder / "a.pt")
        save_safetensors(self.folder / "a.safetensors", whole)
        with mock.patch.object(safe_load, "_flat", None), mock.patch("safetensors_file._tensor", None):
            for name in ("a.pt", "a.safetensors"):
                read = load_content(self.folder / name, weights=False)
                self.assertEqual({key: (value.dtype, value.shape, value.device.type) for key, value in read.items()},
                                 {key: (value.dtype, value.shape, "meta") for key, value in whole.items()})  # fmt: skip

    def test_byte_arrays_come_back_and_a_number_is_no_content_of_one(self):
        for protocol in (2, 4, 5):
            if protocol < 5:
                self.assertEqual(
                    safe_load.loads(pickle.dumps([bytearray(b"a\xff")], protocol=protocol)), [bytearray(b"a\xff")]
                )
            with self.assertRaisesRegex(ValueError, "damaged"):
                safe_load.loads(pickle.dumps(Pickled("builtins", "bytearray", 1 << 20), protocol=protocol))

    def test_a_training_checkpoint_with_classes_in_it_is_inert_data(self):
        with module_with("lightning.callbacks", "hook"):
            content = {
                "state_dict": {"a": torch.ones(2)},
                "callbacks": {unittest.TestCase: {"best": numpy.float64(0.25), "path": Path("x/y")}},
                "options": [torch.float16, torch.Size([2, 3]), torch.device("cpu"), {1, 2}, b"bytes", 3 + 4j],
                "array": numpy.arange(3),
            }
            read = self.written(content)
        self.assertTrue(torch.equal(read["state_dict"]["a"], torch.ones(2)))
        ((kind, values),) = read["callbacks"].items()
        self.assertEqual(kind.class_name, "unittest.case.TestCase")
        self.assertEqual(values["best"], 0.25)
        self.assertEqual(read["options"][:2], [torch.float16, (2, 3)])
        self.assertEqual(read["options"][3:], [{1, 2}, b"bytes", 3 + 4j])
        self.assertIsInstance(read["array"], Record)

    def test_a_pickled_module_gives_its_state_dict(self):
        module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1, bias=False), torch.nn.BatchNorm2d(3))
        module[1].register_buffer("passing", torch.zeros(1), persistent=False)
        read = state_of(self.written(module))
        self.assertEqual(set(read), set(module.state_dict()))
        for name, value in module.state_dict().items():
            self.assertTrue(torch.equal(read[name], value), name)

    def test_an_edm_pickle_is_records_with_tensors_and_its_source_is_never_run(self):
        ema = Golden("whole").pickled()["ema"]
        self.assertEqual((ema.class_name, ema.state["img_resolution"]), ("EDMPrecond", 16))
        self.assertEqual(ema.state["_modules"]["model"].class_name, "SongUNet")


class Safetensors(Folder):
    def write(self, header, data=b""):
        text = json.dumps(header).encode() if isinstance(header, dict) else header
        path = self.folder / "file.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return path

    def test_tensors_come_back(self):
        a, b = numpy.arange(6, dtype=numpy.float32).reshape(2, 3), numpy.array([1, 2], numpy.int64)
        header = {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "b": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
            "c": {"dtype": "BF16", "shape": [], "data_offsets": [40, 42]},
        }
        read = safe_load.load(self.write(header, a.tobytes() + b.tobytes() + b"\x80\x3f"))
        self.assertEqual((read["a"].tolist(), read["b"].tolist(), read["c"].item()), (a.tolist(), [1, 2], 1.0))

    def test_places_outside_the_file_and_damaged_headers_are_refused(self):
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for header, data in (
            ({"a": entry}, b"1234567"),
            ({"a": entry | {"shape": [3]}}, b"12345678"),
            ({"a": entry | {"data_offsets": [-8, 0]}}, b"12345678"),
            ({"a": entry | {"dtype": "F31"}}, b"12345678"),
            ({"a": [1]}, b""),
            (b'{"a": ', b""),
        ):
            with self.subTest(header=header), self.assertRaisesRegex(ValueError, "damaged"):
                safe_load.load(self.write(header, data))


def padded(tensors: int, low_bytes: bytes) -> tuple[dict, bytes]:
    """A safetensors file whose header's length begins with `low_bytes`: the header is filled with spaces to that."""
    header = {f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(tensors)}
    text = json.dumps(header).encode()
    length = int.from_bytes(low_bytes, "little")
    while length < len(text):
        length += 1 << (8 * len(low_bytes))
    data = bytes(range(tensors))
    return header, struct.pack("<Q", length) + text.ljust(length) + data


class KindsAreToldApartByTheirStrongestMark(Folder):
    def test_a_safetensors_header_may_have_any_length(self):
        for low_bytes in (
            b"\x80",
            b"\x80\x02",
            b"\x80\x05",
            b"PK",
            b"PK\x03",
            b"P",
            b"\x93N",
            b"{",
            b"<h",
            b"\x1f\x8b",
        ):
            header, content = padded(3, low_bytes)
            with self.subTest(low_bytes=low_bytes):
                self.assertEqual(
                    {name: value.item() for name, value in safe_load.loads(content).items()},
                    {name: i for i, name in enumerate(header)},
                )

    def test_marks_of_a_zip_inside_other_files_mean_nothing(self):
        end = b"PK\x05\x06" + bytes(18)  # as the end of an archive's directory
        tensor = torch.frombuffer(bytearray(b"PK\x03\x04" + end), dtype=torch.uint8)
        for write in ("pickle", "legacy", "safetensors"):
            path = self.folder / write
            if write == "pickle":
                path.write_bytes(pickle.dumps({"a": bytes(tensor.numpy())}))
                self.assertEqual(safe_load.load(path), {"a": bytes(tensor.numpy())})
            elif write == "legacy":
                torch.save({"a": tensor}, path, _use_new_zipfile_serialization=False)
                self.assertTrue(torch.equal(load_checkpoint(path)["a"], tensor))
            else:
                header = {"a": {"dtype": "U8", "shape": [len(tensor)], "data_offsets": [0, len(tensor)]}}
                text = json.dumps(header).encode()
                path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(tensor.numpy()))
                self.assertTrue(torch.equal(load_checkpoint(path)["a"], tensor))
            self.assertFalse(safe_load.is_zip(path), write)

    def test_a_torch_file_behind_foreign_bytes_is_still_a_zip(self):
        for junk in (b"#!/bin/sh\n", b"\0" * 100, b"\x80"):
            file = io.BytesIO()
            torch.save({"a": torch.arange(3)}, file)
            with self.subTest(junk=junk):
                self.assertEqual(safe_load.loads(junk + file.getvalue())["a"].tolist(), [0, 1, 2])

    def test_pickles_are_read_from_protocol_2_on(self):
        for protocol in range(6):
            content = pickle.dumps({"a": [1, "b"]}, protocol=protocol)
            with self.subTest(protocol=protocol):
                if protocol >= 2:
                    self.assertEqual(safe_load.loads(content), {"a": [1, "b"]})
                else:
                    with self.assertRaisesRegex(ValueError, "neither a pickle"):
                        safe_load.loads(content)

    def test_what_is_no_checkpoint_is_called_by_its_kind(self):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("storages"))
        for content, kind in (
            (b"", "an empty file"),
            (b"\n\n  <!doctype html><title>Sign in</title>", "a web page"),
            (b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", "a web page"),
            (b'{"error": "not found"}', "JSON text"),
            (b"Not Found", "is text"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
            (gzip.compress(b"x"), "gzip data"),
            (tar.getvalue(), "a tar archive"),
            (bytes(range(200, 256)) * 20, "of no kind known here"),
        ):
            with self.subTest(kind), self.assertRaisesRegex(ValueError, f"^x.ckpt: neither a pickle.*{kind}"):
                safe_load.loads(content, "x.ckpt")


class HostilePickles(Folder):
    """Each tries to leave a mark, by a call that plain pickle would make."""

    def setUp(self):
        super().setUp()
        self.mark = self.folder / "mark"

    def refused(self, content, pattern="refused"):
        with self.assertRaisesRegex(ValueError, pattern):
            safe_load.loads(content)
        self.assertFalse(self.mark.exists())

    def attacks(self):
        run = f"open({str(self.mark)!r}, 'w').close()"
        yield Pickled("os", "system", f"touch {self.mark}")
        yield Pickled("builtins", "eval", run)
        yield Pickled("builtins", "exec", run)
        yield Pickled("subprocess", "Popen", ["touch", str(self.mark)])
        yield Pickled("runpy", "run_path", str(self.mark))
        yield Pickled("pathlib", "Path")
        yield Pickled("importlib", "import_module", "this")
        yield Pickled("torch", "load", str(self.mark))
        yield Pickled("builtins", "getattr", torch.float32, "__class__")
        yield Pickled("functools", "partial", eval, run)

    def test_calls_are_refused_in_every_format_and_place(self):
        import functools  # noqa: E401, F401

        for attack in self.attacks():
            for place in (attack, {"a": [attack]}, {"ema": persistent("EDMPrecond", {"x": attack})}):
                for protocol in (2, 4, 5):
                    with (
                        self.subTest(name=attack.name, protocol=protocol),
                        module_with("torch_utils", "nothing"),
                        module_with("torch_utils.persistence", "_reconstruct_persistent_obj"),
                    ):
                        self.refused(pickle.dumps(place, protocol=protocol))
            for zipped in (True, False):
                with self.subTest(name=attack.name, zipped=zipped):
                    file = io.BytesIO()
                    torch.save({"a": torch.ones(1), "b": attack}, file, _use_new_zipfile_serialization=zipped)
                    self.refused(file.getvalue())

    def test_a_pickle_within_a_storage_is_held_to_the_same_rules(self):
        inner = io.BytesIO()
        torch.save(Pickled("os", "system", f"touch {self.mark}"), inner, _use_new_zipfile_serialization=False)
        self.refused(pickle.dumps(Pickled("torch.storage", "_load_from_bytes", inner.getvalue())))

    def test_a_rebuilding_function_of_the_file_s_choice_is_refused(self):

        self.refused(
            pickle.dumps(
                Pickled("torch._tensor", "_rebuild_from_type_v2", os.system, dict, (f"touch {self.mark}",), None)
            )
        )

    def test_protocols_that_call_by_name_are_not_read_at_all(self):
        for protocol in (0, 1):
            self.refused(
                pickle.dumps(Pickled("os", "system", f"touch {self.mark}"), protocol=protocol), "neither a pickle"
            )

    def test_making_an_object_of_a_dangerous_class_runs_nothing(self):
        content = b"\x80\x04c" + b"subprocess\nPopen\n" + b")\x81}\x8c\x04args\x8c\x05touchsb."  # NEWOBJ, then BUILD
        self.assertEqual(safe_load.loads(content).class_name, "subprocess.Popen")

    def test_state_cannot_replace_the_record_s_own_methods(self):
        record = b"\x80\x04c" + b"a\nB\n" + b")\x81}\x8c\x0c__setstate__cos\nsystem\nsb}\x8c\x01xK\x01sb."
        self.assertEqual(safe_load.loads(record).state, {"x": 1})


class DamagedFiles(Folder):
    def test_a_file_cut_anywhere_is_an_error_that_names_it(self):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save({"a": torch.randn(50)}, file, _use_new_zipfile_serialization=zipped)
            content = file.getvalue()
            for length in (0, 1, 5, 40, len(content) // 2, len(content) - 1):
                path = self.folder / "cut.pt"
                path.write_bytes(content[:length])
                with self.subTest(zipped=zipped, length=length), self.assertRaisesRegex(ValueError, "cut.pt: "):
                    safe_load.load(path)

    def test_a_flipped_bit_in_a_zip_is_noticed(self):
        file = io.BytesIO()
        torch.save({"a": torch.ones(500)}, file)
        content = bytearray(file.getvalue())
        content[content.index(struct.pack("<f", 1.0) * 400) + 800] ^= 1
        with self.assertRaisesRegex(ValueError, "damaged"):
            safe_load.loads(bytes(content))

    def test_foreign_files_are_an_error(self):
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("readme.txt", "hello")
        for content in (b"<!DOCTYPE html><html></html>", b"\x89PNG\r\n\x1a\n", b"\x80\x04garbage", zipped.getvalue()):
            with self.subTest(content=content[:10]), self.assertRaises(ValueError):
                safe_load.loads(content)

    def test_a_tensor_outside_its_storage_is_an_error(self):
        for offset, size, stride in (
            (0, (5,), (1,)),
            (3, (2,), (1,)),
            (0, (2, 2), (3, 1)),
            (-1, (1,), (1,)),
            (0, (2,), (-1,)),
        ):
            storage = io.BytesIO()
            torch.save(torch.zeros(4).untyped_storage(), storage, _use_new_zipfile_serialization=False)
            flat = Pickled("torch.storage", "_load_from_bytes", storage.getvalue())
            tensor = Pickled("torch._utils", "_rebuild_tensor_v2", flat, offset, size, stride, False, OrderedDict())
            with self.subTest(offset=offset, size=size), self.assertRaises(ValueError):
                safe_load.loads(pickle.dumps(tensor))


if __name__ == "__main__":
    unittest.main()
