#include <gif_lib.h>
#include <webp/decode.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <climits>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_BMP
#include <stb_image.h>
#pragma GCC diagnostic pop

#include "epd/core/error.h"
#include "image_sources.h"

// Formats beside PNG and JPEG, pixel for pixel as Pillow's convert("RGB"); what would differ from it is refused.

namespace epd {
namespace {

/// RGB or RGBA as it is asked for.
Image without_alpha(Image image, Alpha alpha) {
  if (image.channels != 4) return image;
  if (alpha == Alpha::kWhite) return on_white(image);
  Image rgb(image.height, image.width, 3);
  for (std::size_t i = 0; i < rgb.pixels.size(); ++i) rgb.pixels[i] = image.pixels[i / 3 * 4 + i % 3];
  return rgb;
}

Image decode_bmp(std::string_view bytes, const std::string& name, Alpha alpha) {
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  const int size = static_cast<int>(std::min<std::size_t>(bytes.size(), INT_MAX));
  int width = 0, height = 0, channels = 0;
  const auto require = [&](bool ok) {
    if (!ok && std::strcmp(stbi_failure_reason(), "outofmem") == 0) throw std::bad_alloc();
    EPD_REQUIRE(ok, "cannot read the BMP ", name, ": ", stbi_failure_reason());
  };
  require(stbi_info_from_memory(data, size, &width, &height, &channels) != 0);
  require_sane_size(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height), name);
  const unsigned bits = bytes.size() > 29 ? static_cast<unsigned char>(bytes[28]) : 0;
  EPD_REQUIRE(bits != 16, "cannot read the BMP ", name, ": 16 bits a pixel are not read");
  // Rows of whole 32-bit words, from where the header says; stb takes what is missing for black.
  std::uint32_t begin = 0;
  std::memcpy(&begin, bytes.data() + 10, sizeof begin);
  const std::uint64_t row = (std::uint64_t{bits} * static_cast<std::uint64_t>(width) + 31) / 32 * 4;
  EPD_REQUIRE(begin <= bytes.size() && row * static_cast<std::uint64_t>(height) <= bytes.size() - begin,
              "cannot read the BMP ", name, ": the file ends early");
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(data, size, &width, &height, &channels, channels), stbi_image_free);
  require(pixels != nullptr);
  const std::size_t count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * channels;
  return without_alpha(Image(height, width, channels, {pixels.get(), pixels.get() + count}), alpha);
}

/// A whole number of a PNM header, behind blanks and comments.
int pnm_number(std::string_view& bytes, const std::string& name) {
  while (!bytes.empty() && (std::isspace(static_cast<unsigned char>(bytes[0])) || bytes[0] == '#')) {
    bytes.remove_prefix(bytes[0] == '#' ? std::min(bytes.find('\n'), bytes.size() - 1) + 1 : 1);
  }
  int value = 0, digits = 0;
  for (; !bytes.empty() && std::isdigit(static_cast<unsigned char>(bytes[0])) && digits < 8; ++digits) {
    value = 10 * value + (bytes[0] - '0');
    bytes.remove_prefix(1);
  }
  EPD_REQUIRE(digits > 0 && digits < 8, "cannot read the PNM ", name, ": its header is damaged");
  return value;
}

/// Binary PGM and PPM of 8 bits: a header in front of the pixels.
Image decode_pnm(std::string_view bytes, const std::string& name) {
  EPD_REQUIRE(bytes[1] == '5' || bytes[1] == '6', "cannot read the PNM ", name, ": only binary grey and RGB are read (",
              "P5 and P6), this is P", bytes[1]);
  const int channels = bytes[1] == '5' ? 1 : 3;
  bytes.remove_prefix(2);
  const int width = pnm_number(bytes, name), height = pnm_number(bytes, name), most = pnm_number(bytes, name);
  EPD_REQUIRE(most == 255, "cannot read the PNM ", name, ": its values go to ", most, "; 255 is read");
  require_sane_size(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height), name);
  const std::size_t size = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * channels;
  EPD_REQUIRE(bytes.size() > size, "cannot read the PNM ", name, ": the file ends early");
  const auto* pixels = reinterpret_cast<const std::uint8_t*>(bytes.data()) + 1;
  return Image(height, width, channels, {pixels, pixels + size});
}

Image decode_webp(std::string_view bytes, const std::string& name, Alpha alpha) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  WebPDecoderConfig config;
  EPD_REQUIRE(WebPInitDecoderConfig(&config) != 0, "libwebp has another version than its headers");
  EPD_REQUIRE(WebPGetFeatures(data, bytes.size(), &config.input) == VP8_STATUS_OK, "cannot read the WebP ", name,
              ": its header is damaged");
  EPD_REQUIRE(config.input.has_animation == 0, "cannot read the WebP ", name, ": it is an animation");
  require_sane_size(static_cast<std::uint64_t>(config.input.width), static_cast<std::uint64_t>(config.input.height),
                    name);
  Image image(config.input.height, config.input.width, config.input.has_alpha != 0 ? 4 : 3);
  config.output.colorspace = image.channels == 4 ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {image.pixels.data(), static_cast<int>(image.row_bytes()), image.pixels.size()};
  const auto status = WebPDecode(data, bytes.size(), &config);
  if (status == VP8_STATUS_OUT_OF_MEMORY) throw std::bad_alloc();
  EPD_REQUIRE(
      status == VP8_STATUS_OK, "cannot read the WebP ", name, ": ",
      status == VP8_STATUS_NOT_ENOUGH_DATA || status == VP8_STATUS_SUSPENDED ? "the file ends early" : "it is damaged");
  return without_alpha(std::move(image), alpha);
}

/// The first image of a GIF.
class GifReader {
 public:
  GifReader(std::string_view bytes, const std::string& name) : rest_(bytes), name_(name) {
    int error = 0;
    gif_ = DGifOpen(this, on_read, &error);
    if (gif_ == nullptr) fail(error);
  }
  ~GifReader() {
    int ignored = 0;
    if (gif_ != nullptr) DGifCloseFile(gif_, &ignored);
  }
  GifReader(const GifReader&) = delete;
  GifReader& operator=(const GifReader&) = delete;

  /// RGBA, or RGB where no colour is transparent.
  Image read() {
    int transparent = -1;
    go_to_first_image(transparent);
    const GifImageDesc& part = gif_->Image;
    const int width = std::max(gif_->SWidth, part.Left + part.Width);
    const int height = std::max(gif_->SHeight, part.Top + part.Height);
    require_sane_size(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height), name_);
    Image indices(height, width, 1, static_cast<std::uint8_t>(std::max(transparent, 0)));
    for (const int y : rows(part)) {
      require(DGifGetLine(gif_, indices.row(part.Top + y) + part.Left, part.Width));
    }
    const ColorMapObject* const map = part.ColorMap != nullptr ? part.ColorMap : gif_->SColorMap;
    EPD_REQUIRE(map != nullptr, "cannot read the GIF ", name_, ": it has no colours");
    return coloured(indices, *map, transparent);
  }

 private:
  static int on_read(GifFileType* gif, GifByteType* out, int wanted) {
    auto& rest = static_cast<GifReader*>(gif->UserData)->rest_;
    const auto count = std::min(rest.size(), static_cast<std::size_t>(wanted));
    std::copy_n(rest.data(), count, reinterpret_cast<char*>(out));
    rest.remove_prefix(count);
    return static_cast<int>(count);
  }
  [[noreturn]] void fail(int error) const {
    if (error == D_GIF_ERR_NOT_ENOUGH_MEM) throw std::bad_alloc();
    const char* const reason = GifErrorString(error);
    throw Error(text("cannot read the GIF ", name_, ": ", reason != nullptr ? reason : "it is damaged"));
  }
  void require(int status) const {
    if (status != GIF_OK) fail(gif_->Error);
  }
  void go_to_first_image(int& transparent) {
    for (GifRecordType type = UNDEFINED_RECORD_TYPE; type != IMAGE_DESC_RECORD_TYPE;) {
      require(DGifGetRecordType(gif_, &type));
      EPD_REQUIRE(type != TERMINATE_RECORD_TYPE, "cannot read the GIF ", name_, ": it holds no image");
      if (type != EXTENSION_RECORD_TYPE) continue;
      int code = 0;
      GifByteType* block = nullptr;
      require(DGifGetExtension(gif_, &code, &block));
      GraphicsControlBlock control{};
      if (block != nullptr && code == GRAPHICS_EXT_FUNC_CODE &&
          DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) {
        transparent = control.TransparentColor;
      }
      while (block != nullptr) require(DGifGetExtensionNext(gif_, &block));
    }
    require(DGifGetImageDesc(gif_));
  }
  /// The rows in the order in which they are stored.
  static std::vector<int> rows(const GifImageDesc& part) {
    std::vector<int> result;
    if (!part.Interlace) {
      for (int y = 0; y < part.Height; ++y) result.push_back(y);
      return result;
    }
    for (const auto& [first, step] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}}) {
      for (int y = first; y < part.Height; y += step) result.push_back(y);
    }
    return result;
  }
  static Image coloured(const Image& indices, const ColorMapObject& map, int transparent) {
    Image image(indices.height, indices.width, transparent >= 0 ? 4 : 3);
    auto* out = image.pixels.data();
    for (const int index : indices.pixels) {
      const GifColorType colour = index < map.ColorCount ? map.Colors[index] : GifColorType{};
      *out++ = colour.Red, *out++ = colour.Green, *out++ = colour.Blue;
      if (transparent >= 0) *out++ = index == transparent ? 0 : 255;
    }
    return image;
  }

  std::string_view rest_;
  const std::string& name_;
  GifFileType* gif_ = nullptr;
};

Image decode_other(std::string_view bytes, const std::string& name, Alpha alpha) {
  const auto begins = [&](std::string_view mark) { return bytes.starts_with(mark); };
  if (begins("BM")) return decode_bmp(bytes, name, alpha);
  if (begins("GIF8")) return without_alpha(GifReader(bytes, name).read(), alpha);
  if (begins({"II*\0", 4}) || begins({"MM\0*", 4})) return without_alpha(decode_tiff(bytes, name), alpha);
  if (begins("RIFF") && bytes.size() > 12 && bytes.substr(8, 4) == "WEBP") return decode_webp(bytes, name, alpha);
  if (bytes.size() > 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6') return decode_pnm(bytes, name);
  throw Error(text("cannot read the image ", name, ": it is not a PNG, JPEG, WebP, BMP, TIFF, GIF, PPM or PGM file"));
}

}  // namespace

bool is_image_name(std::string_view lower_case_extension) {
  constexpr auto kExtensions = std::to_array<std::string_view>(
      {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"});
  return std::ranges::find(kExtensions, lower_case_extension) != kExtensions.end();
}

Image decode_image(std::string_view bytes, const std::string& name, Alpha alpha, Channels channels) {
  EPD_REQUIRE(!bytes.empty(), "cannot read the image ", name, ": it is empty");
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(bytes, name, alpha, channels);
  if (bytes.starts_with("\xff\xd8")) return decode_jpeg(bytes, name, channels);
  Image image = decode_other(bytes, name, alpha);
  return channels == Channels::kGreyStaysGrey ? image : to_rgb(std::move(image));
}

}  // namespace epd
