#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace epd {

/// An 8-bit picture: [height, width, channels], row by row, channels together; 3 channels are R, G, B.
struct Image {
  int height = 0;
  int width = 0;
  int channels = 0;
  std::vector<std::uint8_t> pixels;

  Image() = default;
  /// A picture of one value everywhere. Throws Error unless all three numbers are positive.
  Image(int rows, int columns, int num_channels, std::uint8_t value = 0);
  /// A picture of these pixels. Throws Error unless their number is height * width * channels.
  Image(int rows, int columns, int num_channels, std::vector<std::uint8_t> values);

  std::size_t row_bytes() const { return static_cast<std::size_t>(width) * static_cast<std::size_t>(channels); }
  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * row_bytes(); }
  const std::uint8_t* row(int y) const { return pixels.data() + static_cast<std::size_t>(y) * row_bytes(); }

  bool operator==(const Image&) const = default;
};

/// The pictures (one shape, at least one) in rows of `columns`, `gap` pixels of `background` between them.
Image image_grid(const std::vector<Image>& images, int columns, int gap = 0, std::uint8_t background = 255);

/// Throws Error for a file, `name`, that says it holds no pixels, or more than Pillow reads (twice its
/// MAX_IMAGE_PIXELS): that is taken for an attack.
void require_sane_size(std::uint64_t width, std::uint64_t height, const std::string& name);

/// Three channels from one (repeated); a picture of three is returned as it is. Throws Error for others.
Image to_rgb(Image image);

}  // namespace epd
