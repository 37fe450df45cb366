#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "epd/images/image.h"

namespace epd {

using Colour = std::array<std::uint8_t, 3>;

/// Puts the image into the target, cut off at its edges; both of as many channels.
void paste(const Image& image, int top, int left, Image& target);

/// The width in pixels of a line of text, ASCII, in a font of this height (from ascenders to descenders).
int text_width(const std::string& text, int height);

/// Draws a line of text, anti-aliased, into an image of 3 channels; what does not fit is cut off.
void draw_text(const std::string& text, int height, int top, int left, const Colour& colour, Image& target);

}  // namespace epd
