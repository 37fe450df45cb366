#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <vector>

#include "epd/images/image.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
// Without memory it would leave out a character.
static void* allocated(std::size_t size) {
  void* const block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
#define STBTT_malloc(size, user) ((void)(user), allocated(size))
#define STBTT_free(block, user) ((void)(user), std::free(block))
#define STB_TRUETYPE_IMPLEMENTATION
#define STBTT_STATIC
#include <stb_truetype.h>
#pragma GCC diagnostic pop

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr unsigned char kFont[] = {
#include "font.inc"
};

/// The font at one height.
class Font {
 public:
  explicit Font(int height) {
    EPD_REQUIRE(stbtt_InitFont(&info_, kFont, 0) != 0, "the font inside the program cannot be read");
    scale_ = stbtt_ScaleForPixelHeight(&info_, static_cast<float>(height));
    int ascent = 0, descent = 0, gap = 0;
    stbtt_GetFontVMetrics(&info_, &ascent, &descent, &gap);
    ascent_ = static_cast<int>(std::lround(scale_ * static_cast<float>(ascent)));
  }

  /// Calls visit(character, x) for each character, x where it starts; returns where the text ends.
  template <class Visit>
  float walk(const std::string& text, Visit visit) const {
    float x = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      visit(text[i], x);
      int advance = 0, bearing = 0;
      stbtt_GetCodepointHMetrics(&info_, text[i], &advance, &bearing);
      if (i + 1 < text.size()) advance += stbtt_GetCodepointKernAdvance(&info_, text[i], text[i + 1]);
      x += scale_ * static_cast<float>(advance);
    }
    return x;
  }

  /// How much of each pixel the character covers, of 255; `x` is where it starts, `left` and `top` the first pixel.
  Image coverage(char character, float x, int& top, int& left) const {
    const float shift = x - std::floor(x);
    int right = 0, bottom = 0;
    stbtt_GetCodepointBitmapBoxSubpixel(&info_, character, scale_, scale_, shift, 0, &left, &top, &right, &bottom);
    if (right <= left || bottom <= top) return {};
    Image image(bottom - top, right - left, 1);
    stbtt_MakeCodepointBitmapSubpixel(&info_, image.pixels.data(), image.width, image.height, image.width, scale_,
                                      scale_, shift, 0, character);
    left += static_cast<int>(std::floor(x));
    top += ascent_;
    return image;
  }

 private:
  stbtt_fontinfo info_{};
  float scale_ = 1;
  int ascent_ = 0;
};

void blend(const Image& coverage, int top, int left, const Colour& colour, Image& target) {
  for (int y = std::max(0, -top); y < std::min(coverage.height, target.height - top); ++y) {
    for (int x = std::max(0, -left); x < std::min(coverage.width, target.width - left); ++x) {
      const int part = coverage.row(y)[x];
      auto* const pixel = target.row(top + y) + 3 * (left + x);
      for (std::size_t c = 0; c < 3; ++c) {
        pixel[c] = static_cast<std::uint8_t>((pixel[c] * (255 - part) + colour[c] * part + 127) / 255);
      }
    }
  }
}

}  // namespace

void paste(const Image& image, int top, int left, Image& target) {
  EPD_REQUIRE(image.channels == target.channels, "an image of ", image.channels, " channels pasted into one of ",
              target.channels);
  const int begin = std::max(0, -left), end = std::min(image.width, target.width - left);
  for (int y = std::max(0, -top); begin < end && y < std::min(image.height, target.height - top); ++y) {
    std::copy_n(image.row(y) + begin * image.channels, (end - begin) * image.channels,
                target.row(top + y) + (left + begin) * image.channels);
  }
}

int text_width(const std::string& text, int height) {
  return static_cast<int>(std::ceil(Font(height).walk(text, [](char, float) {})));
}

void draw_text(const std::string& text, int height, int top, int left, const Colour& colour, Image& target) {
  EPD_REQUIRE(target.channels == 3, "text needs an image of 3 channels, got ", target.channels);
  const Font font(height);
  font.walk(text, [&](char character, float x) {
    int glyph_top = 0, glyph_left = 0;
    const Image coverage = font.coverage(character, x, glyph_top, glyph_left);
    blend(coverage, top + glyph_top, left + glyph_left, colour, target);
  });
}

}  // namespace epd
