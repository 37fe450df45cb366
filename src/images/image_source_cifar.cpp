#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "epd/core/error.h"
#include "epd/files/pickle.h"
#include "image_sources.h"

namespace epd {
namespace {

constexpr int kSide = 32;
constexpr std::size_t kPictureBytes = std::size_t{3} * kSide * kSide;
constexpr std::int64_t kMaxBatchBytes = std::int64_t{1} << 30;
constexpr std::string_view kBatchPath = "cifar-10-batches-py/data_batch_";

struct Batch {
  std::string name;    // data_batch_1
  std::string planes;  // the pictures, each a red, a green and a blue plane
  std::vector<int> labels;
};

/// Pictures and labels of one batch: a dict with an array `data`, uint8 [N, 3072], and a list `labels`.
Batch read_batch(const std::string& name, const std::string& bytes, const std::string& where) {
  const Pickle pickle(bytes, where);
  Batch batch{.name = name};
  // numpy's arrays are calls with a state: version, shape, dtype, Fortran order, bytes.
  const auto& array = pickle.items(pickle.at(pickle.root(), "data"));
  EPD_REQUIRE(array.size() == 3 && pickle.items(array[2]).size() == 5, where, ": its 'data' is no array of numpy");
  const auto& state = pickle.items(array[2]);
  batch.planes = pickle.text(state[4]);
  for (const auto label : pickle.items(pickle.at(pickle.root(), "labels"))) {
    const auto number = pickle.number(label);
    EPD_REQUIRE(number >= 0 && number < 10, where, ": label ", number, " is not a CIFAR-10 label");
    batch.labels.push_back(static_cast<int>(number));
  }
  EPD_REQUIRE(batch.planes.size() == batch.labels.size() * kPictureBytes && pickle.number(state[3]) == 0, where,
              ": its 'data' is not uint8 [", batch.labels.size(), ", ", kPictureBytes, "], as many as the labels");
  return batch;
}

/// The training batches of the archive, in the order of their names.
std::vector<Batch> read_batches(const std::filesystem::path& path) {
  const std::unique_ptr<archive, decltype(&archive_read_free)> reader(archive_read_new(), archive_read_free);
  const auto require = [&](bool good) {
    EPD_REQUIRE(good, "cannot read the archive ", path.string(), ": ", archive_error_string(reader.get()));
  };
  require(archive_read_support_filter_gzip(reader.get()) == ARCHIVE_OK);
  require(archive_read_support_format_tar(reader.get()) == ARCHIVE_OK);
  require(archive_read_open_filename(reader.get(), path.c_str(), 1 << 16) == ARCHIVE_OK);
  std::vector<Batch> batches;
  while (true) {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(reader.get(), &entry);
    if (status == ARCHIVE_EOF) break;
    require(status == ARCHIVE_OK);
    const std::string name = archive_entry_pathname(entry);
    if (!name.starts_with(kBatchPath)) continue;
    const auto size = archive_entry_size(entry);
    EPD_REQUIRE(size <= kMaxBatchBytes, path.string(), ": ", name, " is too large (", size, " bytes)");
    std::string bytes(static_cast<std::size_t>(size), '\0');
    require(archive_read_data(reader.get(), bytes.data(), bytes.size()) == size);
    batches.push_back(
        read_batch(std::filesystem::path(name).filename().string(), bytes, text(name, " in ", path.string())));
  }
  std::ranges::sort(batches, {}, &Batch::name);
  return batches;
}

class CifarImages : public ImageSource {
 public:
  explicit CifarImages(const std::filesystem::path& path) : batches_(read_batches(path)) {
    for (const auto& batch : batches_) {
      for (std::size_t i = 0; i < batch.labels.size(); ++i) {
        pictures_.push_back({&batch, i});
        names_.push_back(text(batch.name, '[', i, ']'));
      }
    }
  }
  std::size_t size() const override { return pictures_.size(); }
  const std::string& name(std::size_t i) const override { return names_.at(i); }
  std::optional<int> label(std::size_t i) const override { return pictures_.at(i).batch->labels[pictures_[i].index]; }
  Image load(std::size_t i) const override {
    const auto& picture = pictures_.at(i);
    const char* const planes = picture.batch->planes.data() + picture.index * kPictureBytes;
    Image image(kSide, kSide, 3);
    for (std::size_t p = 0; p < image.pixels.size(); ++p) {
      image.pixels[p] = static_cast<std::uint8_t>(planes[p % 3 * kSide * kSide + p / 3]);
    }
    return image;
  }

 private:
  struct Picture {
    const Batch* batch;
    std::size_t index;
  };
  std::vector<Batch> batches_;
  std::vector<Picture> pictures_;
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<ImageSource> open_image_cifar(const std::filesystem::path& path) {
  auto images = std::make_unique<CifarImages>(path);
  return images->size() > 0 ? std::move(images) : nullptr;
}

}  // namespace epd
