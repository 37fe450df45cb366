#pragma once

#include <string>
#include <string_view>

#include "epd/images/image.h"

namespace epd {

/// A JPEG as RGB, pixel for pixel as Pillow (libjpeg-turbo's default settings; grey repeated). `name` stands in
/// errors. CMYK, corrupt data and a file that ends early throw Error.
Image decode_jpeg(std::string_view bytes, const std::string& name);

}  // namespace epd
