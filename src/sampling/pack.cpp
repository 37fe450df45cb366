#include "pack.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json_writer.h"
#include "epd/files/npy.h"
#include "epd/files/npz.h"
#include "epd/files/zip.h"
#include "epd/images/image.h"
#include "epd/images/png.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

fs::path part(const OutputLayout& layout, std::uint64_t seed) { return layout.folder / layout.image_file(seed); }

std::uint8_t pixel_of(float x) { return static_cast<std::uint8_t>(std::clamp(x * 127.5F + 128.0F, 0.0F, 255.0F)); }

/// float32 [C, H, W] as pixels [H, W, C].
Image quantised(const Array& raw) {
  const auto channels = raw.shape[0], height = raw.shape[1], width = raw.shape[2], plane = height * width;
  const auto values = raw.as_doubles();
  Image image(static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels));
  for (std::size_t i = 0; i < plane; ++i) {
    for (std::size_t c = 0; c < channels; ++c) {
      image.pixels[i * channels + c] = pixel_of(static_cast<float>(values[c * plane + i]));
    }
  }
  return image;
}

/// floor(sqrt(n)) images a row, no gaps, black where there are none.
void pack_grid(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds) {
  std::vector<Image> images;
  for (const std::uint64_t seed : seeds) {
    check_interrupt();
    images.push_back(to_rgb(read_image(layout, seed)));
  }
  const int columns = static_cast<int>(std::sqrt(static_cast<double>(images.size())));
  write_file(layout.folder / "grid.png", encode_png(image_grid(images, columns, /*gap=*/0, /*background=*/0)));
}

/// EDM's labels: {"labels": [["000000/000000.png", 3], ...]}.
std::string dataset_json(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
                         const std::vector<std::int64_t>& labels) {
  std::string rows;
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    rows += text(i == 0 ? "" : ", ", "[", json_string(layout.image_name(seeds[i])), ", ", labels[i], "]");
  }
  return text("{\"labels\": [", rows, "]}");
}

void pack_zip(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
              const std::vector<std::int64_t>& labels) {
  ZipWriter zip(layout.folder / "images.zip");
  for (const std::uint64_t seed : seeds) {
    check_interrupt();
    zip.add(layout.image_name(seed), read_file(part(layout, seed)));
  }
  if (!labels.empty()) zip.add("dataset.json", dataset_json(layout, seeds, labels));
  zip.finish();
}

void pack_npz(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
              const std::vector<std::int64_t>& labels) {
  auto shape = read_npy(part(layout, seeds[0])).shape;
  shape.insert(shape.begin(), seeds.size());
  NpzRows npz(layout.folder / "images.npz", "arr_0", "|u1", shape);
  for (const std::uint64_t seed : seeds) {
    check_interrupt();
    npz.append(read_npy(part(layout, seed)).bytes);
  }
  npz.add("seeds", Array::int64s({seeds.size()}, {seeds.begin(), seeds.end()}));
  if (!labels.empty()) npz.add("labels", Array::int64s({labels.size()}, labels));
  npz.finish();
}

void pack_raw(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds) {
  NpyRows npy(layout.folder / "images.npy", "<f4", read_npy(part(layout, seeds[0])).shape);
  for (const std::uint64_t seed : seeds) {
    check_interrupt();
    npy.append(read_npy(part(layout, seed)).bytes);
  }
  npy.finish();
}

}  // namespace

Image read_image(const OutputLayout& layout, std::uint64_t seed) {
  const auto path = part(layout, seed);
  if (path.extension() == ".png") return decode_png(read_file(path), path.string());
  const auto array = read_npy(path);
  EPD_REQUIRE(array.shape.size() == 3, path.string(), ": not the array of one image");
  if (!array.is_uint8()) return quantised(array);
  const auto* pixels = array.as_uint8();
  return Image(static_cast<int>(array.shape[0]), static_cast<int>(array.shape[1]), static_cast<int>(array.shape[2]),
               std::vector<std::uint8_t>(pixels, pixels + array.size()));
}

void pack_images(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
                 const std::vector<std::int64_t>& labels) {
  switch (layout.format) {
    case SampleFormat::kPng:
      break;
    case SampleFormat::kZip:
      pack_zip(layout, seeds, labels);
      break;
    case SampleFormat::kNpz:
      pack_npz(layout, seeds, labels);
      break;
    case SampleFormat::kRaw:
      pack_raw(layout, seeds);
      break;
  }
  if (layout.grid) pack_grid(layout, seeds);
  std::error_code error;
  fs::remove_all(layout.parts_folder(), error);
  EPD_REQUIRE(!error, "cannot remove ", layout.parts_folder().string(), ": ", error.message());
}

}  // namespace epd
