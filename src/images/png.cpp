#include "epd/images/png.h"

#include <libdeflate.h>
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "epd/core/error.h"
#include "epd/files/zip.h"
#include "image_sources.h"

namespace epd {
namespace {

thread_local int deflate_level = kDefaultPngLevel;  // stb's own is a plain global, shared by all threads

struct FreeCompressor {
  void operator()(libdeflate_compressor* compressor) const { libdeflate_free_compressor(compressor); }
};

/// stb_image_write's door for another compressor: zlib data in a block of malloc, or null.
unsigned char* compress_for_stb(unsigned char* data, int size, int* compressed_size, int) {
  const std::unique_ptr<libdeflate_compressor, FreeCompressor> compressor(libdeflate_alloc_compressor(deflate_level));
  if (!compressor) return nullptr;
  const std::size_t bound = libdeflate_zlib_compress_bound(compressor.get(), static_cast<std::size_t>(size));
  auto* compressed = static_cast<unsigned char*>(std::malloc(bound));
  if (compressed == nullptr) return nullptr;
  *compressed_size = static_cast<int>(
      libdeflate_zlib_compress(compressor.get(), data, static_cast<std::size_t>(size), compressed, bound));
  return compressed;
}

}  // namespace
}  // namespace epd

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STBIW_ZLIB_COMPRESS ::epd::compress_for_stb
#include <stb_image_write.h>

namespace epd {
namespace {

constexpr std::size_t kHeaderEnd = 33;  // signature and IHDR: where other chunks may begin

void append_big_endian(std::string& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xFF);
}

std::string text_chunk(const std::string& keyword, const std::string& value) {
  EPD_REQUIRE(!keyword.empty() && keyword.size() <= 79 && keyword.find('\0') == std::string::npos,
              "PNG text: a keyword has 1 to 79 bytes, got '", keyword, "'");
  EPD_REQUIRE(value.size() < (std::size_t{1} << 30) && value.find('\0') == std::string::npos, "PNG text: the text of '",
              keyword, "' is too long or holds a zero byte");
  const bool ascii = std::ranges::all_of(value, [](unsigned char c) { return c < 0x80; });
  // iTXt, for UTF-8: uncompressed, of no language, the keyword not translated.
  const std::string body = (ascii ? "tEXt" + keyword : "iTXt" + keyword + std::string(4, '\0')) + '\0' + value;
  std::string chunk;
  append_big_endian(chunk, static_cast<std::uint32_t>(body.size() - 4));
  chunk += body;
  append_big_endian(chunk, libdeflate_crc32(0, body.data(), body.size()));
  return chunk;
}

}  // namespace

std::string encode_png(const Image& image, const PngText& text, int level) {
  EPD_REQUIRE(image.channels == 1 || image.channels == 3, "a PNG is written with 1 or 3 channels, not ",
              image.channels);
  EPD_REQUIRE(level >= 1 && level <= 12, "PNG compression levels are 1 to 12, got ", level);
  const std::size_t size = image.row_bytes() * static_cast<std::size_t>(image.height);
  EPD_REQUIRE(size > 0 && size == image.pixels.size(), "a PNG needs pixels of its size ", image.height, "x",
              image.width, "x", image.channels, ", got ", image.pixels.size(), " values");
  // stb counts in int; the compressor's bound adds a little.
  EPD_REQUIRE(size + static_cast<std::size_t>(image.height) < (std::size_t{1} << 30), "an image of ", image.height, "x",
              image.width, " is too large for a PNG writer (1 GiB)");
  deflate_level = level;
  int length = 0;
  const std::unique_ptr<unsigned char, decltype(&std::free)> encoded(
      stbi_write_png_to_mem(image.pixels.data(), static_cast<int>(image.row_bytes()), image.width, image.height,
                            image.channels, &length),
      &std::free);
  if (!encoded) throw std::bad_alloc();
  const std::string_view bytes(reinterpret_cast<const char*>(encoded.get()), static_cast<std::size_t>(length));
  std::string result(bytes.substr(0, kHeaderEnd));
  for (const auto& [keyword, value] : text) result += text_chunk(keyword, value);
  result += bytes.substr(kHeaderEnd);
  return result;
}

namespace {

/// What libpng's callbacks see. On failure libpng jumps to `jump`; nothing with a destructor may live between.
struct Reading {
  std::string_view bytes;
  std::size_t position = 0;
  std::jmp_buf jump;
  std::array<char, 200> message{};
  bool out_of_memory = false;
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* reading = static_cast<Reading*>(png_get_error_ptr(png));
  std::strncpy(reading->message.data(), message, reading->message.size() - 1);
  std::longjmp(reading->jump, 1);
}

void on_warning(png_structp, png_const_charp) {}

png_voidp on_allocation(png_structp png, png_alloc_size_t size) {
  void* const block = std::malloc(size);
  if (block == nullptr) static_cast<Reading*>(png_get_mem_ptr(png))->out_of_memory = true;
  return block;
}

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
      : png(png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &reading, on_error, on_warning, &reading, on_allocation,
                                     [](png_structp, png_voidp block) { std::free(block); })) {
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) png_destroy_read_struct(&png, nullptr, nullptr);
    if (info == nullptr) throw std::bad_alloc();
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  png_structp png = nullptr;
  png_infop info = nullptr;
};

/// The steps that may jump, each free of destructors. False: reading.message says why.
bool read_header(PngReader& reader, Reading& reading, Alpha alpha) {
  if (setjmp(reading.jump) != 0) return false;
  png_set_read_fn(reader.png, &reading, on_read);
  // Transparency is an ancillary chunk: damaged, it would be passed over, and the colours on white be others.
  if (alpha == Alpha::kWhite) png_set_crc_action(reader.png, PNG_CRC_DEFAULT, PNG_CRC_ERROR_QUIT);
  // Only IHDR, PLTE, IDAT and IEND matter here; texts and profiles could be bombs of their own.
  png_set_keep_unknown_chunks(reader.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
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

}  // namespace

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

Image decode_png(std::string_view bytes, const std::string& name, Alpha alpha, Channels channels) {
  Reading reading{bytes};
  PngReader reader(reading);
  const auto require = [&](bool ok) {
    // Also where libpng goes on: without the palette's transparency, say.
    if (reading.out_of_memory) throw std::bad_alloc();
    EPD_REQUIRE(ok, "cannot read the PNG ", name, ": ", reading.message.data());
  };
  require(read_header(reader, reading, alpha));
  const std::uint64_t width = png_get_image_width(reader.png, reader.info);
  const std::uint64_t height = png_get_image_height(reader.png, reader.info);
  require_sane_size(width, height, name);
  const std::uint64_t bits =
      width * height * png_get_bit_depth(reader.png, reader.info) * png_get_channels(reader.png, reader.info);
  EPD_REQUIRE(bits / 8 <= kMaxDeflateRatio * bytes.size(), "cannot read the PNG ", name, ": ", bytes.size(),
              " bytes cannot hold the ", width, "x", height, " pixels that its header declares");
  const bool grey = (png_get_color_type(reader.png, reader.info) & PNG_COLOR_MASK_COLOR) == 0;
  require(choose_pixels(reader, reading, alpha));

  Image image(static_cast<int>(height), static_cast<int>(width), alpha == Alpha::kDrop ? 3 : 4);
  EPD_REQUIRE(png_get_rowbytes(reader.png, reader.info) == image.row_bytes(), "cannot read the PNG ", name,
              ": its rows have ", png_get_rowbytes(reader.png, reader.info), " bytes instead of ", image.row_bytes());
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y) rows.push_back(image.row(y));
  require(read_pixels(reader, reading, rows.data()));
  if (alpha == Alpha::kWhite) image = on_white(image);
  return grey && channels == Channels::kGreyStaysGrey ? to_grey(image) : image;
}

}  // namespace epd
