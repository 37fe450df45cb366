#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "epd/core/error.h"
#include "epd/files/limits.h"
#include "epd/images/png.h"

namespace epd {
namespace {

/// What libpng's callbacks see. On failure libpng jumps to `jump`; nothing with a destructor may live between.
struct Reading {
  std::string_view bytes;
  std::size_t position = 0;
  std::jmp_buf jump;
  std::array<char, 200> message{};
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* reading = static_cast<Reading*>(png_get_error_ptr(png));
  std::strncpy(reading->message.data(), message, reading->message.size() - 1);
  std::longjmp(reading->jump, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, std::size_t length) {
  auto* reading = static_cast<Reading*>(png_get_io_ptr(png));
  if (length > reading->bytes.size() - reading->position) png_error(png, "the file ends early");
  std::memcpy(out, reading->bytes.data() + reading->position, length);
  reading->position += length;
}

/// libpng's two structures, freed together.
class PngReader {
 public:
  explicit PngReader(Reading& reading)
      : png(png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading, on_error, on_warning)) {
    EPD_REQUIRE(png != nullptr, "no memory to read a PNG");
    info = png_create_info_struct(png);
    if (info == nullptr) png_destroy_read_struct(&png, nullptr, nullptr);
    EPD_REQUIRE(info != nullptr, "no memory to read a PNG");
    png_set_read_fn(png, &reading, on_read);
    // Only IHDR, PLTE, IDAT and IEND matter here; texts and profiles could be bombs of their own.
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  png_structp png = nullptr;
  png_infop info = nullptr;
};

/// The steps that may jump, each free of destructors. False: reading.message says why.
bool read_header(PngReader& reader, Reading& reading) {
  if (setjmp(reading.jump) != 0) return false;
  png_read_info(reader.png, reader.info);
  return true;
}

/// Asks for 8-bit RGB whatever the file holds, or for RGBA. Palette entries beyond the palette's end are black, as in
/// Pillow.
bool choose_pixels(PngReader& reader, Reading& reading, Alpha alpha) {
  if (setjmp(reading.jump) != 0) return false;
  png_set_interlace_handling(reader.png);
  png_set_strip_16(reader.png);  // the high byte
  png_set_palette_to_rgb(reader.png);
  png_set_expand_gray_1_2_4_to_8(reader.png);
  png_set_gray_to_rgb(reader.png);
  switch (alpha) {
    case Alpha::kDrop:
      png_set_strip_alpha(reader.png);
      break;
    case Alpha::kWhite:
      png_set_tRNS_to_alpha(reader.png);
      png_set_add_alpha(reader.png, 255, PNG_FILLER_AFTER);
      break;
  }
  png_read_update_info(reader.png, reader.info);
  return true;
}

bool read_pixels(PngReader& reader, Reading& reading, png_bytepp rows) {
  if (setjmp(reading.jump) != 0) return false;
  png_read_image(reader.png, rows);
  png_read_end(reader.png, nullptr);
  return true;
}

/// RGBA laid on white, rounded to the nearest.
Image on_white(const Image& rgba) {
  Image rgb(rgba.height, rgba.width, 3);
  auto* out = rgb.pixels.data();
  for (std::size_t i = 0; i < rgba.pixels.size(); i += 4) {
    const int alpha = rgba.pixels[i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      *out++ = static_cast<std::uint8_t>((rgba.pixels[i + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return rgb;
}

}  // namespace

Image decode_png(std::string_view bytes, const std::string& name, Alpha alpha) {
  Reading reading{bytes};
  PngReader reader(reading);
  const auto require = [&](bool ok) { EPD_REQUIRE(ok, "cannot read the PNG ", name, ": ", reading.message.data()); };
  require(read_header(reader, reading));
  const std::uint64_t width = png_get_image_width(reader.png, reader.info);
  const std::uint64_t height = png_get_image_height(reader.png, reader.info);
  require_sane_size(width, height, name);
  const std::uint64_t bits =
      width * height * png_get_bit_depth(reader.png, reader.info) * png_get_channels(reader.png, reader.info);
  EPD_REQUIRE(bits / 8 <= kMaxDeflateRatio * bytes.size(), "cannot read the PNG ", name, ": ", bytes.size(),
              " bytes cannot hold the ", width, "x", height, " pixels that it promises");
  require(choose_pixels(reader, reading, alpha));

  Image image(static_cast<int>(height), static_cast<int>(width), alpha == Alpha::kDrop ? 3 : 4);
  EPD_REQUIRE(png_get_rowbytes(reader.png, reader.info) == image.row_bytes(), "cannot read the PNG ", name,
              ": its rows have ", png_get_rowbytes(reader.png, reader.info), " bytes instead of ", image.row_bytes());
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y) rows.push_back(image.row(y));
  require(read_pixels(reader, reading, rows.data()));
  return alpha == Alpha::kDrop ? image : on_white(image);
}

}  // namespace epd
