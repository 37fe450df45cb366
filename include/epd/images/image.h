#pragma once

#include <array>
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

/// The first channel.
Image to_grey(const Image& image);

using Colour = std::array<std::uint8_t, 3>;

/// Puts the image into the target, cut off at its edges; both of as many channels.
void paste(const Image& image, int top, int left, Image& target);

/// The width in pixels of a line of text, ASCII, in a font of this height (from ascenders to descenders).
int text_width(const std::string& text, int height);

/// Draws a line of text, anti-aliased, into an image of 3 channels; what does not fit is cut off.
void draw_text(const std::string& text, int height, int top, int left, const Colour& colour, Image& target);

/// The image at another size by the antialiasing Lanczos filter (three lobes, as wide as the scale asks for), rounded
/// to 8 bits after the rows and after the columns, the filter cut off at the edges, in integers: the very bytes of
/// Pillow's resize(LANCZOS). Any number of channels.
Image resize(const Image& image, int height, int width);

/// What resize() does, for records.
std::string resize_method();

}  // namespace epd
