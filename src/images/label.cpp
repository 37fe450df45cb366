#include "epd/images/label.h"

#include <algorithm>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_easy_font.h>
#pragma GCC diagnostic pop

namespace epd {
namespace {

/// A corner of a rectangle as stb_easy_font writes it.
struct Vertex {
  float x, y, z;
  unsigned char colour[4];
};

void paste(const Image& source, int top, int left, Image& target) {
  for (int y = 0; y < source.height; ++y) {
    std::copy_n(source.row(y), source.row_bytes(), target.row(top + y) + left * target.channels);
  }
}

}  // namespace

Image text_image(const std::string& text, int height, int width, int scale) {
  Image image(std::max(height, 12 * scale), width, 3, 255);
  std::string ascii = text;
  std::vector<Vertex> corners(text.size() * 70 + 4);
  const int quads = stb_easy_font_print(0, 0, ascii.data(), nullptr, corners.data(),
                                        static_cast<int>(corners.size() * sizeof(Vertex)));
  const int top = (image.height - 8 * scale) / 2;
  for (int q = 0; q < quads; ++q) {
    const Vertex &from = corners[static_cast<std::size_t>(4 * q)], &to = corners[static_cast<std::size_t>(4 * q + 2)];
    const int x_end = std::min(width, static_cast<int>(to.x) * scale + 4);
    const int y_end = std::min(image.height, static_cast<int>(to.y) * scale + top);
    for (int y = static_cast<int>(from.y) * scale + top; y < y_end; ++y) {
      for (int x = static_cast<int>(from.x) * scale + 4; x < x_end; ++x) std::fill_n(image.row(y) + 3 * x, 3, 0);
    }
  }
  return image;
}

Image beside(const Image& left, const Image& right) {
  Image both(std::max(left.height, right.height), left.width + right.width, 3, 255);
  paste(left, 0, 0, both);
  paste(right, 0, left.width, both);
  return both;
}

Image above(const Image& top, const Image& bottom) {
  Image both(top.height + bottom.height, std::max(top.width, bottom.width), 3, 255);
  paste(top, 0, 0, both);
  paste(bottom, top.height, 0, both);
  return both;
}

}  // namespace epd
