#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "epd/core/names.h"
#include "epd/images/image.h"

namespace epd {

/// Keyword (1 to 79 ASCII characters) and text in UTF-8: tEXt chunks, iTXt beyond ASCII.
using PngText = std::vector<std::pair<std::string, std::string>>;

/// How hard encode_png compresses, 1 (fast) to 12 (small): the pixels are the same. Level 1 is within 3 % of the size
/// that Pillow writes, in a tenth of the time.
inline constexpr int kDefaultPngLevel = 1;

/// The bytes of a PNG, 8-bit grey (1 channel) or RGB (3). The same bytes for the same picture; safe in any thread.
std::string encode_png(const Image& image, const PngText& text = {}, int level = kDefaultPngLevel);

/// What becomes of transparency (alpha channels and tRNS) in a picture that is read as RGB.
enum class Alpha {
  kDrop,  // the colours as they are, as Pillow's convert("RGB")
  kWhite  // laid on white
};
inline constexpr NameTable<Alpha, 2> kAlphaNames{{{"drop", Alpha::kDrop}, {"white", Alpha::kWhite}}};
constexpr const auto& names_of(Alpha) { return kAlphaNames; }

/// Which channels an image is read with.
enum class Channels {
  kRgb,           // grey repeated
  kGreyStaysGrey  // one channel where the file is grey, with or without transparency
};

/// A PNG as RGB (or grey), pixel for pixel as Pillow's convert("RGB") except 16-bit samples, of which the high byte
/// counts: palettes resolved, grey repeated, transparency dropped unless told otherwise. `name` stands in errors. A
/// damaged critical chunk, an early end, or a size whose pixels the file could not hold throw Error; damage in an
/// ancillary chunk does not count, unless transparency is laid on white.
Image decode_png(std::string_view bytes, const std::string& name, Alpha alpha = Alpha::kDrop,
                 Channels channels = Channels::kRgb);

}  // namespace epd
