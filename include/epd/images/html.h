#pragma once

#include <string>
#include <string_view>

#include "epd/images/image.h"

namespace epd {

/// The text as it may stand in HTML, also in attributes.
std::string html_text(std::string_view value);

/// The image as PNG inside an address, "data:image/png;base64,...", for pages that need no other file.
std::string data_address(const Image& image);

}  // namespace epd
