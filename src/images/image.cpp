#include "epd/images/image.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "epd/core/error.h"

namespace epd {
namespace {

std::size_t checked_pixels(int height, int width, int channels) {
  EPD_REQUIRE(height > 0 && width > 0 && channels > 0, "an image of ", height, "x", width, " with ", channels,
              " channels");
  return static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
}

}  // namespace

Image::Image(int rows, int columns, int num_channels, std::uint8_t value)
    : height(rows),
      width(columns),
      channels(num_channels),
      pixels(checked_pixels(rows, columns, num_channels), value) {}

Image::Image(int rows, int columns, int num_channels, std::vector<std::uint8_t> values)
    : height(rows), width(columns), channels(num_channels), pixels(std::move(values)) {
  EPD_REQUIRE(pixels.size() == checked_pixels(height, width, channels), "an image of ", height, "x", width, " with ",
              channels, " channels cannot have ", pixels.size(), " values");
}

Image image_grid(const std::vector<Image>& images, int columns, int gap, std::uint8_t background) {
  EPD_REQUIRE(!images.empty() && columns > 0 && gap >= 0, "a grid of ", images.size(), " images in ", columns,
              " columns, ", gap, " pixels apart");
  const Image& first = images.front();
  const int count = static_cast<int>(images.size());
  const int used_columns = std::min(columns, count);
  const int rows = (count + columns - 1) / columns;
  Image grid(rows * first.height + (rows - 1) * gap, used_columns * first.width + (used_columns - 1) * gap,
             first.channels, background);
  for (int i = 0; i < count; ++i) {
    const Image& image = images[static_cast<std::size_t>(i)];
    EPD_REQUIRE(image.height == first.height && image.width == first.width && image.channels == first.channels,
                "a grid needs images of one size: ", first.height, "x", first.width, "x", first.channels,
                ", but number ", i, " is ", image.height, "x", image.width, "x", image.channels);
    const int top = i / columns * (first.height + gap);
    const std::size_t left = static_cast<std::size_t>(i % columns * (first.width + gap) * first.channels);
    for (int y = 0; y < image.height; ++y) std::memcpy(grid.row(top + y) + left, image.row(y), image.row_bytes());
  }
  return grid;
}

void require_sane_size(std::uint64_t width, std::uint64_t height, const std::string& name) {
  constexpr std::uint64_t kMaxPixels = 178'956'970;
  EPD_REQUIRE(width > 0 && height > 0 && width * height <= kMaxPixels, "cannot read ", name, ": its header declares ",
              width, "x", height, " pixels; at most ", kMaxPixels, " are read");
}

Image to_rgb(Image image) {
  if (image.channels == 3) return image;
  EPD_REQUIRE(image.channels == 1, "an image with ", image.channels, " channels is neither grey nor RGB");
  Image rgb(image.height, image.width, 3);
  auto* out = rgb.pixels.data();
  for (const std::uint8_t grey : image.pixels) {
    out[0] = out[1] = out[2] = grey;
    out += 3;
  }
  return rgb;
}

}  // namespace epd
