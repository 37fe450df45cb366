#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/files/atomic_file.h"
#include "epd/files/npz.h"
#include "image_sources.h"

namespace epd {
namespace {

/// Reads bytes of an array's data, from the offset on, in any thread.
using ReadData = std::function<void(std::uint64_t offset, char* out, std::size_t num_bytes)>;

ReadData from_memory(std::shared_ptr<const Array> array) {
  return [array](std::uint64_t offset, char* out, std::size_t num_bytes) {
    array->bytes.copy(out, num_bytes, static_cast<std::size_t>(offset));
  };
}

ReadData from_file(Descriptor file, std::uint64_t data_begin, std::filesystem::path path) {
  const auto shared = std::make_shared<Descriptor>(std::move(file));
  return [shared, data_begin, path](std::uint64_t offset, char* out, std::size_t num_bytes) {
    read_at(shared->number(), data_begin + offset, out, num_bytes, path);
  };
}

ReadData from_stored(std::shared_ptr<NpzReader> npz, const std::string& name, std::uint64_t data_begin) {
  const std::size_t index = npz->entry(name);
  npz->zip().stream(index, [](std::string_view) {});  // once, for the CRC: pictures are then read one by one
  return [npz, index, data_begin](std::uint64_t offset, char* out, std::size_t num_bytes) {
    npz->zip().read_range(index, data_begin + offset, out, num_bytes);
  };
}

/// A compressed array is inflated into a nameless temporary file, so that a large one costs no memory.
ReadData from_compressed(const NpzReader& npz, const std::string& name, std::uint64_t data_begin) {
  Descriptor file = Descriptor::temporary();
  const auto folder = std::filesystem::temp_directory_path();
  npz.zip().stream(npz.entry(name), [&](std::string_view piece) { write_all(file.number(), piece, folder); });
  return from_file(std::move(file), data_begin, npz.zip().path());
}

class ArrayImages : public ImageSource {
 public:
  ArrayImages(const NpyHeader& header, const std::string& array, ReadData read, Channels read_as,
              std::vector<int> labels = {})
      : read_(std::move(read)), read_as_(read_as), labels_(std::move(labels)) {
    height_ = static_cast<int>(header.shape[1]);
    width_ = static_cast<int>(header.shape[2]);
    channels_ = static_cast<int>(header.shape[3]);
    for (std::size_t i = 0; i < header.shape[0]; ++i) names_.push_back(array + '[' + std::to_string(i) + ']');
  }
  std::size_t size() const override { return names_.size(); }
  const std::string& name(std::size_t i) const override { return names_.at(i); }
  std::optional<int> label(std::size_t i) const override {
    return labels_.empty() ? std::nullopt : std::optional(labels_.at(i));
  }
  Image load(std::size_t i) const override {
    Image image(height_, width_, channels_);
    const std::size_t bytes = image.pixels.size();
    try {
      read_(i * std::uint64_t{bytes}, reinterpret_cast<char*>(image.pixels.data()), bytes);
    } catch (const Error& e) {
      throw Error(text(name(i), ": ", e.what()));
    }
    return read_as_ == Channels::kRgb ? to_rgb(std::move(image)) : image;
  }

 private:
  ReadData read_;
  Channels read_as_;
  std::vector<int> labels_;
  int height_ = 0, width_ = 0, channels_ = 0;
  std::vector<std::string> names_;
};

std::string shape_text(const std::vector<std::size_t>& shape) {
  std::string result;
  for (const std::size_t length : shape) result += (result.empty() ? "" : ", ") + std::to_string(length);
  return '[' + result + ']';
}

void require_pictures(const NpyHeader& header, const std::string& what) {
  EPD_REQUIRE(header.dtype == "|u1", what, ": images are uint8, this array has dtype ", header.dtype);
  const auto& shape = header.shape;
  EPD_REQUIRE(shape.size() == 4 && (shape[3] == 1 || shape[3] == 3), what,
              ": images are an array [N, height, width, 1 or 3], this one has shape ", shape_text(shape));
  EPD_REQUIRE(shape[0] > 0, "there are no images in ", what);
  constexpr std::size_t kMaxSide = 1 << 16;
  EPD_REQUIRE(shape[1] > 0 && shape[2] > 0 && shape[1] <= kMaxSide && shape[2] <= kMaxSide, what,
              ": no image has the size of shape ", shape_text(shape));
}

std::unique_ptr<ImageSource> open_npy(const std::filesystem::path& path, Channels channels) {
  Descriptor file = Descriptor::open_to_read(path);
  const std::uint64_t size = std::filesystem::file_size(path);
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(size, kNpyHeaderRead)), '\0');
  read_at(file.number(), 0, start.data(), start.size(), path);
  const NpyHeader header = parse_npy_header(start, path.string());
  require_pictures(header, path.string());
  EPD_REQUIRE(header.data_bytes <= size - header.header_bytes, path.string(), ": cut short, ",
              size - header.header_bytes, " bytes of data instead of ", header.data_bytes);
  ReadData read = header.fortran_order ? from_memory(std::make_shared<const Array>(read_npy(path)))
                                       : from_file(std::move(file), header.header_bytes, path);
  return std::make_unique<ArrayImages>(header, path.stem().string(), std::move(read), channels);
}

/// The classes beside the images, as guided diffusion's tools store them; nothing where there are none.
std::vector<int> labels_beside(const NpzReader& npz, std::size_t num_images, const ImageReading& reading) {
  for (const char* name : {"labels", "arr_1"}) {
    if (!npz.has(name)) continue;
    const std::string where = text("array '", name, "' in ", npz.zip().path().string());
    const auto header = npz.header(name);
    const bool integers = header.dtype.find_first_of("iu") != header.dtype.npos;
    if (!integers || header.shape != std::vector<std::size_t>{num_images}) {
      if (reading.labels_matter) {
        log::warning(where, " gives no classes: it is ", header.dtype, ' ', shape_text(header.shape),
                     ", not integers [", num_images, ']');
      }
      continue;
    }
    const auto labels = npz.read(name).as_int64s();
    const auto large = std::ranges::find_if_not(labels, [](std::int64_t label) { return std::in_range<int>(label); });
    if (large == labels.end()) return {labels.begin(), labels.end()};
    refuse_labels(text(where, ": class ", *large, " of image ", large - labels.begin(), " is too large"), reading);
  }
  return {};
}

std::unique_ptr<ImageSource> open_npz(const std::filesystem::path& path, const ImageReading& reading) {
  const auto npz = std::make_shared<NpzReader>(path);
  const auto names = npz->names();
  EPD_REQUIRE(npz->has("arr_0") || names.size() == 1, "images: ", path.string(), " has ", names.size(),
              " arrays and none of them is arr_0");
  const std::string name = npz->has("arr_0") ? "arr_0" : names.front();
  const NpyHeader header = npz->header(name);
  require_pictures(header, text("array '", name, "' in ", path.string()));
  ReadData read;
  if (header.fortran_order) {
    read = from_memory(std::make_shared<const Array>(npz->read(name)));
  } else if (npz->zip().entries()[npz->entry(name)].stored) {
    read = from_stored(npz, name, header.header_bytes);
  } else {
    read = from_compressed(*npz, name, header.header_bytes);
  }
  return std::make_unique<ArrayImages>(header, name, std::move(read), reading.channels,
                                       labels_beside(*npz, header.shape[0], reading));
}

}  // namespace

std::unique_ptr<ImageSource> open_image_array(const std::filesystem::path& path, const ImageReading& reading) {
  const bool npz = path.extension() == ".npz" || path.extension() == ".NPZ";
  return npz ? open_npz(path, reading) : open_npy(path, reading.channels);
}

}  // namespace epd
