#include <libdeflate.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "epd/core/error.h"
#include "epd/images/png.h"

namespace epd {
namespace {

thread_local int deflate_level = kDefaultPngLevel;  // stb's own is a plain global, shared by all threads

struct FreeCompressor {
  void operator()(libdeflate_compressor* compressor) const { libdeflate_free_compressor(compressor); }
};

libdeflate_compressor* compressor_of_this_thread() {
  thread_local std::unique_ptr<libdeflate_compressor, FreeCompressor> compressor;
  thread_local int level = 0;
  if (!compressor || level != deflate_level) {
    compressor.reset(libdeflate_alloc_compressor(deflate_level));
    level = deflate_level;
  }
  return compressor.get();
}

/// stb_image_write's door for another compressor: zlib data in a block of malloc, or null.
unsigned char* compress_for_stb(unsigned char* data, int size, int* compressed_size, int) {
  libdeflate_compressor* compressor = compressor_of_this_thread();
  if (compressor == nullptr) return nullptr;
  const std::size_t bound = libdeflate_zlib_compress_bound(compressor, static_cast<std::size_t>(size));
  auto* compressed = static_cast<unsigned char*>(std::malloc(bound));
  if (compressed == nullptr) return nullptr;
  *compressed_size =
      static_cast<int>(libdeflate_zlib_compress(compressor, data, static_cast<std::size_t>(size), compressed, bound));
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
  EPD_REQUIRE(size + static_cast<std::size_t>(image.height) < (std::size_t{1} << 30), "a picture of ", image.height,
              "x", image.width, " is too large for a PNG writer (1 GiB)");
  deflate_level = level;
  int length = 0;
  const std::unique_ptr<unsigned char, decltype(&std::free)> encoded(
      stbi_write_png_to_mem(image.pixels.data(), static_cast<int>(image.row_bytes()), image.width, image.height,
                            image.channels, &length),
      &std::free);
  EPD_REQUIRE(encoded && length > static_cast<int>(kHeaderEnd), "no memory to encode a picture of ", image.height, "x",
              image.width);
  const std::string_view bytes(reinterpret_cast<const char*>(encoded.get()), static_cast<std::size_t>(length));
  std::string result(bytes.substr(0, kHeaderEnd));
  for (const auto& [keyword, value] : text) result += text_chunk(keyword, value);
  result += bytes.substr(kHeaderEnd);
  return result;
}

}  // namespace epd
