"""Makes formats.zip, images of the formats beside PNG and JPEG, and formats.npz, the pixels that Pillow reads from them.

`python3 make_formats.py` (Pillow 13.0 and NumPy 2.4 made the files here).
"""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def images(rng):
    noise = Image.fromarray(rng.integers(0, 256, (11, 13, 3), dtype=np.uint8))
    waves = np.sin(np.arange(3 * 24 * 40).reshape(24, 40, 3) / 50) * 127 + 128
    smooth = Image.fromarray(waves.astype(np.uint8))
    clear = smooth.convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (24, 40), dtype=np.uint8)))
    grey = noise.convert("L")
    files = {
        "rgb.bmp": encoded(noise, "BMP"),
        "palette.bmp": encoded(noise.convert("P"), "BMP"),
        "grey.bmp": encoded(grey, "BMP"),
        "bit.bmp": encoded(noise.convert("1"), "BMP"),
        "rgba.bmp": encoded(clear, "BMP"),
        "palette.gif": encoded(smooth.quantize(64), "GIF"),
        "interlaced.gif": encoded(noise.quantize(16), "GIF", interlace=1),
        "plain.gif": encoded(noise.quantize(16), "GIF", interlace=0),
        "transparent.gif": encoded(noise.quantize(16), "GIF", transparency=3),
        "grey.gif": encoded(grey, "GIF"),
        "moving.gif": encoded(noise.quantize(16), "GIF", save_all=True, append_images=[noise.rotate(90).quantize(16)]),
        "rgb.ppm": encoded(noise, "PPM"),
        "grey.pgm": encoded(grey, "PPM"),
        "lossless.webp": encoded(noise, "WEBP", lossless=True),
        "lossy.webp": encoded(smooth, "WEBP", quality=80),
        "lossy_noise.webp": encoded(noise, "WEBP", quality=50),
        "alpha.webp": encoded(clear, "WEBP", lossless=True, exact=True),
        "alpha_lossy.webp": encoded(clear, "WEBP", quality=80),
        "bit.tif": encoded(noise.convert("1"), "TIFF", compression="group4"),
        "bit_plain.tif": encoded(noise.convert("1"), "TIFF"),
        "rgba.tif": encoded(clear, "TIFF", compression="tiff_lzw"),
        "palette.tif": encoded(noise.convert("P"), "TIFF"),
        "grey_alpha.tif": encoded(clear.convert("LA"), "TIFF"),
    }
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"rgb_{compression}.tif"] = encoded(smooth, "TIFF", compression=compression)
        files[f"grey_{compression}.tif"] = encoded(grey, "TIFF", compression=compression)
    # A part of the screen alone, behind a comment, and another one, with blanks for the rest.
    gif = bytearray(files["plain.gif"])
    gif[6:10] = struct.pack("<HH", 20, 16)
    files["part.gif"] = bytes(gif)
    files["comment.ppm"] = b"P6 # a comment\n2 # two\n1\n255\n" + bytes(range(6))
    return files


def main():
    files = images(np.random.default_rng(3))
    with zipfile.ZipFile(HERE / "formats.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    pixels = {
        name.replace(".", "_"): np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for name, data in files.items()
    }
    np.savez_compressed(HERE / "formats.npz", **pixels)


if __name__ == "__main__":
    main()
