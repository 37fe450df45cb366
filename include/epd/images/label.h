#pragma once

#include <string>

#include "epd/images/image.h"

namespace epd {

/// The text in black on white, `height` pixels high at least and `width` wide, at its left edge: a caption for a
/// picture. ASCII; what does not fit is cut off.
Image text_image(const std::string& text, int height, int width, int scale = 1);

/// Two pictures side by side, aligned at the top, on white.
Image beside(const Image& left, const Image& right);
/// Two pictures one above the other, aligned at the left, on white.
Image above(const Image& top, const Image& bottom);

}  // namespace epd
