#pragma once

#include <cstdint>
#include <string>

#include "epd/core/error.h"

namespace epd {

/// Deflate never makes more than this many bytes of one: what promises more cannot keep it.
inline constexpr std::uint64_t kMaxDeflateRatio = 1032;

/// The most pixels a picture may have, as in Pillow (twice its MAX_IMAGE_PIXELS): more is taken for an attack.
inline constexpr std::uint64_t kMaxPixels = 178'956'970;

inline void require_sane_size(std::uint64_t width, std::uint64_t height, const std::string& name) {
  EPD_REQUIRE(width > 0 && height > 0 && width * height <= kMaxPixels, "cannot read ", name, ": it says that it is ",
              width, "x", height, " pixels; at most ", kMaxPixels, " are read");
}

}  // namespace epd
