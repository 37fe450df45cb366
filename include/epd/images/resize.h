#pragma once

#include <string>

#include "epd/images/image.h"

namespace epd {

/// The image at another size by the antialiasing Lanczos filter (three lobes, as wide as the scale asks for), rounded
/// to 8 bits after the rows and after the columns, the filter cut off at the edges, in integers: the very bytes of
/// Pillow's resize(LANCZOS). Any number of channels.
Image resize(const Image& image, int height, int width);

/// What resize() does, for records.
std::string resize_method();

}  // namespace epd
