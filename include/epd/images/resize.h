#pragma once

#include <string>

#include "epd/images/image.h"

namespace epd {

/// The picture at another size by the antialiasing Lanczos filter (three lobes, as wide as the scale asks for), rounded
/// to 8 bits after the rows and after the columns, the filter cut off at the edges: pixel for pixel what Pillow's
/// resize(LANCZOS) gives, but for ties of rounding. The same bytes on every processor. Any number of channels.
Image resize(const Image& image, int height, int width);

/// The library behind resize() and its version, for records.
std::string resize_method();

}  // namespace epd
