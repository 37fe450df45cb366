#include "epd/images/image.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>
#include <vector>

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

Image to_grey(const Image& image) {
  Image grey(image.height, image.width, 1);
  const auto* in = image.pixels.data();
  for (auto& value : grey.pixels) {
    value = *in;
    in += image.channels;
  }
  return grey;
}

namespace {

constexpr int kLobes = 3;
// Weights are integers, 2^22 for one: 8 bits of pixel and 2 of overshoot fit beside them into 32.
constexpr int kFractionBits = 32 - 8 - 2;

/// The pixels that make one pixel of the result: weights for those from `first` on.
struct Window {
  int first = 0;
  std::vector<int> weights;
};

double sinc(double x) { return x == 0 ? 1 : std::sin(std::numbers::pi * x) / (std::numbers::pi * x); }
double lanczos(double x) { return -kLobes <= x && x < kLobes ? sinc(x) * sinc(x / kLobes) : 0; }

/// The filter is widened where the image shrinks, and cut off at the image's edges, where the rest is scaled up to 1.
Window window_at(int position, int old_size, int new_size) {
  const double scale = static_cast<double>(old_size) / new_size, filter_scale = std::max(scale, 1.0);
  const double center = (position + 0.5) * scale, support = kLobes * filter_scale, inverse = 1 / filter_scale;
  const int first = std::max(static_cast<int>(center - support + 0.5), 0);
  const int end = std::min(static_cast<int>(center + support + 0.5), old_size);
  std::vector<double> weights;
  double sum = 0;
  for (int x = first; x < end; ++x) sum += weights.emplace_back(lanczos((x - center + 0.5) * inverse));
  Window window{first, {}};
  for (const double weight : weights) {
    const double scaled = weight / sum * (1 << kFractionBits);
    window.weights.push_back(static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
  }
  return window;
}

/// The image with its rows resized to `width`, and then mirrored at the diagonal, so that its columns come next.
Image resize_rows(const Image& image, int width) {
  Image result(width, image.height, image.channels);
  for (int x = 0; x < width; ++x) {
    const Window window = window_at(x, image.width, width);
    std::uint8_t* out = result.row(x);
    for (int y = 0; y < image.height; ++y) {
      for (int c = 0; c < image.channels; ++c) {
        const std::uint8_t* pixel = image.row(y) + window.first * image.channels + c;
        int sum = 1 << (kFractionBits - 1);
        for (const int weight : window.weights) {
          sum += weight * *pixel;
          pixel += image.channels;
        }
        *out++ = static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
      }
    }
  }
  return result;
}

}  // namespace

Image resize(const Image& image, int height, int width) {
  EPD_REQUIRE(height > 0 && width > 0, "cannot resize an image to ", width, "x", height);
  return resize_rows(resize_rows(image, width), height);
}

std::string resize_method() { return text("Lanczos, ", kLobes, " lobes, antialiased, in Pillow's integers"); }

}  // namespace epd
