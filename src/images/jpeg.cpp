#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <new>

// After <cstdio>: it needs FILE.
#include <jpeglib.h>
// After <jpeglib.h>.
#include <jerror.h>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "image_sources.h"

namespace epd {
namespace {

/// libjpeg's error manager with the place to jump to; nothing with a destructor may live between.
struct Failure {
  jpeg_error_mgr manager;  // first, so that a pointer to it is a pointer to this
  std::jmp_buf jump;
  std::array<char, JMSG_LENGTH_MAX> message{};
};

[[noreturn]] void on_error(j_common_ptr state) {
  auto* failure = reinterpret_cast<Failure*>(state->err);
  state->err->format_message(state, failure->message.data());
  std::longjmp(failure->jump, 1);
}

/// A level below 0 is damage that libjpeg makes something of. The first is kept.
void on_message(j_common_ptr state, int level) {
  auto* failure = reinterpret_cast<Failure*>(state->err);
  if (level < 0 && state->err->num_warnings++ == 0) state->err->format_message(state, failure->message.data());
}

/// libjpeg asks for more than the file has. Its own answer is a made-up end and a grey rest.
[[noreturn]] boolean on_early_end(j_decompress_ptr state) {
  auto* failure = reinterpret_cast<Failure*>(state->err);
  std::snprintf(failure->message.data(), failure->message.size(), "the file ends early");
  std::longjmp(failure->jump, 1);
}

/// A few bytes can ask for another pass over a large image, again and again; no encoder makes more than about 20.
void on_progress(j_common_ptr state) {
  constexpr int kMaxScans = 100;
  auto* failure = reinterpret_cast<Failure*>(state->err);
  if (reinterpret_cast<j_decompress_ptr>(state)->input_scan_number <= kMaxScans) return;
  std::snprintf(failure->message.data(), failure->message.size(), "it has more than %d scans", kMaxScans);
  std::longjmp(failure->jump, 1);
}

class JpegReader {
 public:
  JpegReader() {
    state.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = on_error;
    failure.manager.emit_message = on_message;
    progress.progress_monitor = on_progress;
  }
  ~JpegReader() { jpeg_destroy_decompress(&state); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  jpeg_decompress_struct state{};
  jpeg_progress_mgr progress{};
  Failure failure{};
};

/// The steps that may jump, each free of destructors. False: failure.message says why.
bool read_header(JpegReader& reader, std::string_view bytes) {
  if (setjmp(reader.failure.jump) != 0) return false;
  jpeg_create_decompress(&reader.state);
  reader.state.progress = &reader.progress;
  jpeg_mem_src(&reader.state, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  reader.state.src->fill_input_buffer = on_early_end;
  jpeg_read_header(&reader.state, TRUE);
  return true;
}

bool read_pixels(JpegReader& reader, Image& image) {
  if (setjmp(reader.failure.jump) != 0) return false;
  reader.state.out_color_space = image.channels == 1 ? JCS_GRAYSCALE : image.channels == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&reader.state);
  while (reader.state.output_scanline < reader.state.output_height) {
    JSAMPROW row = image.row(static_cast<int>(reader.state.output_scanline));
    jpeg_read_scanlines(&reader.state, &row, 1);
  }
  jpeg_finish_decompress(&reader.state);
  return true;
}

/// Inverted CMYK as RGB in Pillow's integers: R = K - (255 - C) K / 255, rounded to the nearest.
Image rgb_of_cmyk(const Image& cmyk) {
  Image rgb(cmyk.height, cmyk.width, 3);
  auto* out = rgb.pixels.data();
  for (std::size_t i = 0; i < cmyk.pixels.size(); i += 4) {
    const int black = cmyk.pixels[i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk.pixels[i + c]) * black + 128;
      *out++ = static_cast<std::uint8_t>(black - ((product + (product >> 8)) >> 8));
    }
  }
  return rgb;
}

}  // namespace

Image decode_jpeg(std::string_view bytes, const std::string& name, Channels channels) {
  EPD_REQUIRE(!bytes.empty(), "cannot read the JPEG ", name, ": it is empty");
  JpegReader reader;
  const auto require = [&](bool ok) {
    if (!ok && reader.failure.manager.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
    EPD_REQUIRE(ok, "cannot read the JPEG ", name, ": ", reader.failure.message.data());
  };
  require(read_header(reader, bytes));
  const int components = reader.state.num_components;
  EPD_REQUIRE(components == 1 || components == 3 || components == 4, "cannot read the JPEG ", name, ": it has ",
              components, " components, neither grey nor colour");
  require_sane_size(reader.state.image_width, reader.state.image_height, name);
  Image image(static_cast<int>(reader.state.image_height), static_cast<int>(reader.state.image_width), components);
  require(read_pixels(reader, image));
  if (reader.failure.manager.num_warnings > 0) {
    log::warning("the JPEG ", name, " is damaged: ", reader.failure.message.data(),
                 "; what libjpeg makes of it counts");
  }
  if (components == 4) return rgb_of_cmyk(image);
  return channels == Channels::kGreyStaysGrey ? image : to_rgb(std::move(image));
}

int exif_orientation(std::string_view jpeg) {
  const auto byte = [&](std::size_t i) { return i < jpeg.size() ? static_cast<unsigned char>(jpeg[i]) : 0u; };
  // Segments: FF, kind, a length of two bytes that counts itself. EXIF is a TIFF directory in an APP1 (E1).
  for (std::size_t i = 2; byte(i) == 0xFF && byte(i + 1) != 0xDA && i < jpeg.size();) {
    const std::size_t length = byte(i + 2) << 8 | byte(i + 3), tiff = i + 10;
    if (byte(i + 1) == 0xE1 && jpeg.substr(i + 4).starts_with("Exif")) {
      const bool big = byte(tiff) == 'M';
      const auto u16 = [&](std::size_t at) {
        return big ? byte(at) << 8 | byte(at + 1) : byte(at + 1) << 8 | byte(at);
      };
      const std::size_t directory = tiff + (big ? u16(tiff + 6) : u16(tiff + 4));  // below 64 KiB, as the segment is
      for (std::size_t e = 0; e < u16(directory); ++e) {
        const std::size_t entry = directory + 2 + 12 * e;
        if (u16(entry) == 0x0112) return static_cast<int>(u16(entry + 8));
      }
      return 1;
    }
    i += 2 + std::max<std::size_t>(length, 2);
  }
  return 1;
}

}  // namespace epd
