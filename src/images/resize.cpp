#include "epd/images/resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "epd/core/error.h"

namespace epd {
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
