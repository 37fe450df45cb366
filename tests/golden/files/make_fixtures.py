"""Makes the pictures, arrays and archives that tests/io reads, and what independent programs read from them.

Pillow and NumPy are the reference: `python3 make_fixtures.py` (Pillow 13.0, NumPy 2.4 made the files here).
The PNGs come from the small encoder below, because Pillow writes neither interlaced nor 16-bit RGB files.
"""

import io
import json
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
WIDTH, HEIGHT = 13, 11
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body, damage_crc=False):
    crc = zlib.crc32(kind + body) ^ (1 if damage_crc else 0)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def pack_rows(samples, depth):
    """samples [H, W, C] of integers -> filtered rows (each with another filter type) as PNG stores them."""
    height, width, channels = samples.shape
    step = max(1, channels * depth // 8)
    rows, above = [], None
    for y in range(height):
        flat = samples[y].reshape(-1)
        if depth == 16:
            raw = flat.astype(">u2").tobytes()
        elif depth == 8:
            raw = flat.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), f"0{depth}b") for v in flat)
            bits += "0" * (-len(bits) % 8)
            raw = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        above = above or bytes(len(raw))
        kind = y % 5
        filtered = bytearray()
        for i, value in enumerate(raw):
            left = raw[i - step] if i >= step else 0
            up = above[i]
            corner = above[i - step] if i >= step else 0
            paeth = min((left, up, corner), key=lambda c: abs(left + up - corner - c))
            filtered.append((value - (0, left, up, (left + up) // 2, paeth)[kind]) & 255)
        rows.append(bytes([kind]) + bytes(filtered))
        above = raw
    return b"".join(rows)


def png(samples, colour, depth, interlace=False, before=b"", after=b""):
    height, width, _ = samples.shape
    if interlace:
        data = b"".join(pack_rows(part, depth) for x, y, dx, dy in ADAM7 if (part := samples[y::dy, x::dx]).size)
    else:
        data = pack_rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlace))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(data, 9))
        + after
        + chunk(b"IEND", b"")
    )


def pillow_rgb(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def pillow_on_white(data):
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(white)


def png_fixtures(rng):
    files, expected = {}, {}
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    cases = [(GREY, d) for d in (1, 2, 4, 8, 16)] + [(RGB, 8), (RGB, 16)] + [(PALETTE, d) for d in (1, 2, 4, 8)]
    cases += [(GREY_ALPHA, 8), (GREY_ALPHA, 16), (RGBA, 8), (RGBA, 16)]
    names = {GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "grey_alpha", RGBA: "rgba"}
    for colour, depth in cases:
        for interlace in (False, True):
            samples = rng.integers(0, 2**depth, (HEIGHT, WIDTH, CHANNELS[colour]))
            before = chunk(b"PLTE", palette[: 2**depth].tobytes()) if colour == PALETTE else b""
            name = f"{names[colour]}{depth}{'_interlaced' if interlace else ''}.png"
            files[name] = png(samples, colour, depth, interlace, before)
            if colour == GREY and depth == 16:  # Pillow clips these to white; the high byte is meant
                expected[name] = np.repeat((samples >> 8).astype(np.uint8), 3, axis=2)
            else:
                expected[name] = pillow_rgb(files[name])
    grey = rng.integers(0, 256, (HEIGHT, WIDTH, 1))
    rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3))
    index = rng.integers(0, 256, (HEIGHT, WIDTH, 1))
    plte = chunk(b"PLTE", palette.tobytes())
    special = {
        "grey_transparent.png": png(grey, GREY, 8, before=chunk(b"tRNS", struct.pack(">H", int(grey[0, 0, 0])))),
        "rgb_transparent.png": png(rgb, RGB, 8, before=chunk(b"tRNS", struct.pack(">3H", *map(int, rgb[0, 0])))),
        "palette_transparent.png": png(index, PALETTE, 8, before=plte + chunk(b"tRNS", bytes(range(256)))),
        "palette_short.png": png(index, PALETTE, 8, before=chunk(b"PLTE", palette[:20].tobytes())),
        "gamma.png": png(rgb, RGB, 8, before=chunk(b"gAMA", struct.pack(">I", 100000))),
        "bad_text_crc.png": png(rgb, RGB, 8, after=chunk(b"tEXt", b"Comment\0hello", damage_crc=True)),
        "odd_profile.png": png(rgb, RGB, 8, before=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))),
        "one_pixel_interlaced.png": png(rgb[:1, :1], RGB, 8, interlace=True),
    }
    for name, data in special.items():
        files[name] = data
        # Pillow refuses the damaged ancillary chunk too; the pixels are those of the picture without it.
        expected[name] = rgb.astype(np.uint8) if name == "bad_text_crc.png" else pillow_rgb(data)
    return files, expected


def smooth_picture(rng, height, width):
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg_fixtures(rng):
    files, expected = {}, {}
    picture = smooth_picture(rng, 37, 45)
    cases = {
        "444.jpg": (picture, dict(quality=90, subsampling=0)),
        "422.jpg": (picture, dict(quality=85, subsampling=1)),
        "420.jpg": (picture, dict(quality=75, subsampling=2)),
        "420_progressive.jpg": (picture, dict(quality=75, subsampling=2, progressive=True)),
        "420_restart.jpg": (picture, dict(quality=60, subsampling=2, restart_marker_blocks=2)),
        "420_one_pixel.jpg": (picture.crop((0, 0, 1, 1)), dict(quality=75, subsampling=2)),
        "rgb_not_ycc.jpg": (picture, dict(quality=90, keep_rgb=True)),
        "grey.jpg": (picture.convert("L"), dict(quality=80)),
        "grey_progressive.jpg": (picture.convert("L"), dict(quality=80, progressive=True)),
    }
    for name, (image, options) in cases.items():
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        files[name] = buffer.getvalue()
        expected[name] = pillow_rgb(files[name])
    inks = Image.merge("CMYK", [*picture.split(), picture.convert("L").transpose(Image.Transpose.ROTATE_180)])
    for name, image in {"cmyk.jpg": picture.convert("CMYK"), "cmyk_black.jpg": inks}.items():
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        files[name] = buffer.getvalue()
        expected[name] = pillow_rgb(files[name])
    return files, expected


def arrays(rng):
    values = rng.standard_normal((3, 4))
    block = rng.integers(-100, 100, (2, 3, 5))
    return {
        "float64": values,
        "float32": values.astype("<f4"),
        "float16": values.astype("<f2"),
        "half_edges": np.array([0.0, -0.0, 6e-8, -6e-5, 65504.0, np.inf, -np.inf], "<f2"),
        "big_endian": values.astype(">f8"),
        "big_endian_i2": block.astype(">i2"),
        "fortran": np.asfortranarray(values),
        "fortran_3d": np.asfortranarray(block.astype("<f4")),
        "fortran_big_endian": np.asfortranarray(block.astype(">i4")),
        "int8": block.astype("i1"),
        "int16": block.astype("<i2"),
        "int32": block.astype("<i4"),
        "int64": block,
        "uint8": (block + 100).astype("u1"),
        "uint16": (block + 100).astype("<u2"),
        "uint32": (block + 100).astype("<u4"),
        "uint64": (block + 100).astype("<u8"),
        "bool": block > 0,
        "scalar": np.array(3.25),
        "empty": np.zeros((0, 5)),
        "one": np.array([7]),
    }


def npy_bytes(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), version=version)
    return buffer.getvalue()


def main():
    rng = np.random.default_rng(1)
    pngs, expected = png_fixtures(rng)
    jpegs, jpeg_expected = jpeg_fixtures(rng)
    with zipfile.ZipFile(HERE / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**pngs, **jpegs}.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    np.savez_compressed(
        HERE / "pixels.npz", **{k.replace(".", "_"): v for k, v in {**expected, **jpeg_expected}.items()}
    )

    see_through = [
        "rgba8.png",
        "rgba16.png",
        "rgba8_interlaced.png",
        "grey_alpha8.png",
        "grey_transparent.png",
        "rgb_transparent.png",
        "palette_transparent.png",
        "rgb8.png",
    ]
    np.savez_compressed(
        HERE / "pixels_on_white.npz", **{k.replace(".", "_"): pillow_on_white(pngs[k]) for k in see_through}
    )

    kinds = arrays(rng)
    texts = {
        "text": np.array("Fr\u00e9chet \u8ddd\u79bb \U0001f600"),
        "text_big_endian": np.array("swapped").astype(">U9"),
        "bytes": np.array(b"plain"),
        "empty_text": np.array(""),
    }
    np.savez(HERE / "kinds.npz", **kinds, **texts)
    np.savez_compressed(HERE / "kinds_compressed.npz", **kinds, **texts)
    np.savez_compressed(
        HERE / "kinds_as_float64.npz",
        **{k: np.ascontiguousarray(v, dtype="<f8") if v.ndim else v for k, v in kinds.items()},
    )
    for version in (1, 2, 3):
        (HERE / f"version{version}.npy").write_bytes(npy_bytes(kinds["float64"], (version, 0)))
    np.savez(
        HERE / "refused.npz",
        mu=np.arange(3.0),
        pickled=np.array([{"a": 1}, None], dtype=object),
        structured=np.zeros(2, dtype=[("x", "<f8"), ("y", "<i4")]),
        complex=np.zeros(2, complex),
        date=np.zeros(2, "datetime64[s]"),
    )

    pictures = rng.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    np.savez(HERE / "images.npz", pictures, np.arange(5))
    np.savez_compressed(HERE / "images_compressed.npz", data=pictures)
    np.save(HERE / "images.npy", pictures)
    np.save(HERE / "images_fortran.npy", np.asfortranarray(pictures))

    with zipfile.ZipFile(HERE / "dataset.zip", "w") as archive:  # as EDM's dataset tool writes
        names = [f"00000/img{i:08d}.png" for i in range(5)]
        for name, pixels in zip(reversed(names), reversed(pictures)):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            archive.writestr(zipfile.ZipInfo(name), buffer.getvalue())
        archive.writestr(
            zipfile.ZipInfo("dataset.json"), json.dumps({"labels": [[n, 7 - i] for i, n in enumerate(names)]})
        )
    with zipfile.ZipFile(HERE / "zip64.zip", "w") as archive:
        for i in range(3):
            with archive.open(zipfile.ZipInfo(f"{i}.txt"), "w", force_zip64=True) as entry:
                entry.write(f"entry {i}".encode())
    print("made with Pillow", Image.__version__, "NumPy", np.__version__, "Python", sys.version.split()[0])


main()
