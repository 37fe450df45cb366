#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "epd/core/error.h"
#include "image_sources.h"

namespace epd {
namespace {

/// What libtiff's callbacks see.
struct TiffBytes {
  std::string_view bytes;
  std::uint64_t position = 0;
  std::array<char, 200> message{};

  static TiffBytes& of(thandle_t handle) { return *static_cast<TiffBytes*>(handle); }
  static tmsize_t read(thandle_t handle, void* out, tmsize_t wanted) {
    auto& self = of(handle);
    const auto left = self.position < self.bytes.size() ? self.bytes.size() - self.position : 0;
    const auto count = std::min<std::uint64_t>(left, static_cast<std::uint64_t>(wanted));
    std::memcpy(out, self.bytes.data() + self.position, count);
    self.position += count;
    return static_cast<tmsize_t>(count);
  }
  static tmsize_t write(thandle_t, void*, tmsize_t) { return 0; }
  static toff_t seek(thandle_t handle, toff_t offset, int whence) {
    auto& self = of(handle);
    const toff_t base = whence == SEEK_CUR ? self.position : whence == SEEK_END ? self.bytes.size() : 0;
    return self.position = base + offset;
  }
  static int close(thandle_t) { return 0; }
  static toff_t size(thandle_t handle) { return of(handle).bytes.size(); }
  static void on_error(thandle_t handle, const char*, const char* format, va_list values) {
    auto& message = of(handle).message;
    if (message[0] == '\0') std::vsnprintf(message.data(), message.size(), format, values);
  }
};

/// The first image of a TIFF of at most 8 bits a sample.
class TiffReader {
 public:
  TiffReader(std::string_view bytes, const std::string& name) : source_{bytes}, name_(name) {
    static std::once_flag once;
    std::call_once(once, [] {
      TIFFSetWarningHandler(nullptr);
      TIFFSetErrorHandler(nullptr);
      TIFFSetErrorHandlerExt(TiffBytes::on_error);
    });
    tiff_.reset(TIFFClientOpen(name.c_str(), "rm", &source_, TiffBytes::read, TiffBytes::write, TiffBytes::seek,
                               TiffBytes::close, TiffBytes::size, nullptr, nullptr));
    require(tiff_ != nullptr);
  }

  Image read() {
    std::uint32_t width = 0, height = 0;
    require(TIFFGetField(tiff_.get(), TIFFTAG_IMAGEWIDTH, &width) == 1 &&
            TIFFGetField(tiff_.get(), TIFFTAG_IMAGELENGTH, &height) == 1);
    require_sane_size(width, height, name_);
    const int bits = field(TIFFTAG_BITSPERSAMPLE), samples = field(TIFFTAG_SAMPLESPERPIXEL);
    const int photometric = field(TIFFTAG_PHOTOMETRIC);
    refuse(bits > 8, text(bits, " bits a sample are not read"));
    refuse(field(TIFFTAG_ORIENTATION) != ORIENTATION_TOPLEFT, "its rows are not stored from the top left");
    const bool rgb = photometric == PHOTOMETRIC_RGB, grey = photometric == PHOTOMETRIC_MINISBLACK;
    const bool plain = bits == 8 && (rgb || grey) && field(TIFFTAG_PLANARCONFIG) == PLANARCONFIG_CONTIG &&
                       TIFFIsTiled(tiff_.get()) == 0 && samples <= 4;
    if (plain) return rows(static_cast<int>(height), static_cast<int>(width), rgb ? 3 : 1, samples);
    std::uint16_t extra = 0, *kinds = nullptr;
    TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_EXTRASAMPLES, &extra, &kinds);
    refuse(extra > 0, "transparency of this kind is not read");
    refuse(photometric == PHOTOMETRIC_SEPARATED || photometric == PHOTOMETRIC_CIELAB, "CMYK and Lab are not read");
    return converted(static_cast<int>(height), static_cast<int>(width));
  }

 private:
  struct Close {
    void operator()(TIFF* tiff) const { TIFFClose(tiff); }
  };
  void refuse(bool bad, const std::string& why) const { EPD_REQUIRE(!bad, "cannot read the TIFF ", name_, ": ", why); }
  void require(bool ok) const { refuse(!ok, source_.message[0] != '\0' ? source_.message.data() : "it is damaged"); }
  int field(std::uint32_t tag) const {
    std::uint16_t value = 0;
    TIFFGetFieldDefaulted(tiff_.get(), tag, &value);
    return value;
  }
  /// Samples as they are; of RGB, the fourth is opacity.
  Image rows(int height, int width, int channels, int samples) {
    const int kept = channels == 3 && samples == 4 ? 4 : channels;
    refuse(samples < channels, "it has too few samples a pixel");
    const auto row_bytes = TIFFScanlineSize(tiff_.get());
    refuse(row_bytes != static_cast<tmsize_t>(width) * samples, "it is damaged");
    std::vector<std::uint8_t> row(static_cast<std::size_t>(row_bytes));
    Image image(height, width, kept);
    for (int y = 0; y < height; ++y) {
      require(TIFFReadScanline(tiff_.get(), row.data(), static_cast<std::uint32_t>(y)) == 1);
      for (int x = 0; x < width; ++x)
        std::copy_n(&row[static_cast<std::size_t>(x) * samples], kept, image.row(y) + x * kept);
    }
    return image;
  }
  /// Palettes, one bit, planes and JPEG inside are left to libtiff.
  Image converted(int height, int width) {
    std::vector<std::uint32_t> raster(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
    require(TIFFReadRGBAImageOriented(tiff_.get(), static_cast<std::uint32_t>(width),
                                      static_cast<std::uint32_t>(height), raster.data(), ORIENTATION_TOPLEFT, 1) == 1);
    Image image(height, width, 3);
    auto* out = image.pixels.data();
    for (const auto pixel : raster) {
      *out++ = static_cast<std::uint8_t>(TIFFGetR(pixel));
      *out++ = static_cast<std::uint8_t>(TIFFGetG(pixel));
      *out++ = static_cast<std::uint8_t>(TIFFGetB(pixel));
    }
    return image;
  }

  TiffBytes source_;
  const std::string& name_;
  std::unique_ptr<TIFF, Close> tiff_;
};

}  // namespace

Image decode_tiff(std::string_view bytes, const std::string& name) { return TiffReader(bytes, name).read(); }

}  // namespace epd
