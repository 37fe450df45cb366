#include "epd/images/image_source.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"
#include "epd/files/zip.h"
#include "epd/images/png.h"
#include "image_sources.h"

namespace epd {
namespace {

constexpr std::uint64_t kMaxEncodedBytes = std::uint64_t{1} << 30;
constexpr std::string_view kLabelFile = "dataset.json";

std::string lower_case_extension(const std::string& name) {
  std::string extension = std::filesystem::path(name).extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension;
}

bool is_hidden(const std::string& name) {
  for (const auto& part : std::filesystem::path(name)) {
    if ((part.string().starts_with('.') && part != ".") || part == "__MACOSX") return true;
  }
  return false;
}

/// Sorts out the names of a folder or archive.
class PictureNames {
 public:
  /// Whether the name (a path with '/') is a picture to be read; keeps count of what is not.
  bool accept(const std::string& name);
  /// One warning for all that was left out.
  void warn(const std::filesystem::path& where) const;

 private:
  std::size_t hidden_ = 0;
  std::size_t others_ = 0;
  std::string first_other_;
};

bool PictureNames::accept(const std::string& name) {
  if (is_hidden(name)) {
    ++hidden_;
    return false;
  }
  const std::string extension = lower_case_extension(name);
  if (extension == ".png" || extension == ".jpg" || extension == ".jpeg") return true;
  if (name == kLabelFile) return false;
  if (others_++ == 0) first_other_ = name;
  return false;
}

void PictureNames::warn(const std::filesystem::path& where) const {
  if (others_ > 0) {
    log::warning(where.string(), ": ", others_, " files that are neither .png, .jpg nor .jpeg are ignored (",
                 first_other_, others_ > 1 ? ", ...)" : ")");
  }
  if (hidden_ > 0) log::info(where.string(), ": ", hidden_, " hidden files are ignored");
}

/// name -> class from a dataset.json's text; empty where labels are null or (with a warning) not to be understood.
std::unordered_map<std::string, int> parse_labels(std::string_view json, const std::string& where) {
  std::unordered_map<std::string, int> result;
  const auto document = Json::parse(json, nullptr, false);
  const bool usable = document.is_object() && document.contains("labels");
  if (usable && document["labels"].is_null()) return result;
  bool good = usable && document["labels"].is_array();
  for (std::size_t i = 0; good && i < document["labels"].size(); ++i) {
    const auto& pair = document["labels"][i];
    good = pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number_integer();
    if (good) result[pair[0].get<std::string>()] = pair[1].get<int>();
  }
  if (good) return result;
  log::warning(where, ": unknown label format, expected {\"labels\": [[name, class], ...]}; labels are ignored");
  return {};
}

/// What folders and archives share: sorted names and labels.
class NamedImages : public ImageSource {
 public:
  std::size_t size() const override { return names_.size(); }
  const std::string& name(std::size_t i) const override { return names_.at(i); }
  std::optional<int> label(std::size_t i) const override { return labels_.empty() ? std::nullopt : labels_.at(i); }

 protected:
  explicit NamedImages(Alpha alpha) : alpha_(alpha) {}
  Image decode(std::string_view bytes, const std::string& where) const { return decode_image(bytes, where, alpha_); }
  void set_names(std::vector<std::string> names, const std::filesystem::path& path) {
    EPD_REQUIRE(!names.empty(), "there are no images in ", path.string(),
                " (searched for *.png, *.jpg and *.jpeg at every depth)");
    std::ranges::sort(names);
    names_ = std::move(names);
  }
  void set_labels(std::string_view json, const std::string& where) {
    const auto by_name = parse_labels(json, where);
    if (by_name.empty()) return;
    for (const std::string& name : names_) {
      const auto found = by_name.find(name);
      labels_.push_back(found == by_name.end() ? std::nullopt : std::optional(found->second));
    }
  }

 private:
  std::vector<std::string> names_;
  std::vector<std::optional<int>> labels_;
  Alpha alpha_;
};

/// The files below a folder, as paths relative to it; not the overview that `sample --grid` leaves. Links to files
/// count, links to folders are not followed: they could lead back.
std::vector<std::string> pictures_below(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  PictureNames filter;
  std::size_t linked_folders = 0;
  try {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_symlink() && entry.is_directory()) ++linked_folders;
      if (entry.is_directory()) continue;
      const std::string name = entry.path().lexically_relative(folder).generic_string();
      if (name == "grid.png" && std::filesystem::exists(folder / "manifest.json")) continue;
      if (filter.accept(name)) names.push_back(name);
    }
  } catch (const std::filesystem::filesystem_error& e) {
    throw Error(
        text("cannot read the folder ", folder.string(), ": ", e.code().message(), " (", e.path1().string(), ")"));
  }
  filter.warn(folder);
  if (linked_folders > 0) log::warning(folder.string(), ": ", linked_folders, " links to folders are not followed");
  return names;
}

class FolderImages : public NamedImages {
 public:
  FolderImages(const std::filesystem::path& folder, Alpha alpha) : NamedImages(alpha), folder_(folder) {
    set_names(pictures_below(folder), folder);
    const auto labels = folder / kLabelFile;
    if (std::filesystem::is_regular_file(labels)) set_labels(read_file(labels), labels.string());
  }
  Image load(std::size_t i) const override {
    const auto path = folder_ / name(i);
    return decode(read_file(path, kMaxEncodedBytes), path.string());
  }

 private:
  std::filesystem::path folder_;
};

class ZipImages : public NamedImages {
 public:
  ZipImages(const std::filesystem::path& path, Alpha alpha) : NamedImages(alpha), zip_(path) {
    std::vector<std::string> names;
    PictureNames filter;
    for (const auto& entry : zip_.entries()) {
      if (filter.accept(entry.name)) names.push_back(entry.name);
    }
    filter.warn(path);
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());  // a name that stands twice is one picture
    set_names(std::move(names), path);
    for (std::size_t i = 0; i < size(); ++i) entries_.push_back(*zip_.find(name(i)));
    if (const auto labels = zip_.find(kLabelFile)) {
      set_labels(zip_.read(*labels, kMaxEncodedBytes), text(kLabelFile, " in ", path.string()));
    }
  }
  Image load(std::size_t i) const override {
    return decode(zip_.read(entries_.at(i), kMaxEncodedBytes), text(name(i), " in ", zip_.path().string()));
  }

 private:
  ZipReader zip_;
  std::vector<std::size_t> entries_;
};

}  // namespace

Image decode_image(std::string_view bytes, const std::string& name, Alpha alpha) {
  EPD_REQUIRE(!bytes.empty(), "cannot read the image ", name, ": it is empty");
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(bytes, name, alpha);
  if (bytes.starts_with("\xff\xd8")) return decode_jpeg(bytes, name);
  throw Error(text("cannot read the image ", name, ": it is neither PNG nor JPEG"));
}

std::unique_ptr<ImageSource> open_image_source(const std::filesystem::path& path, Alpha alpha) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  EPD_REQUIRE(std::filesystem::exists(status), "images: ", path.string(), " does not exist");
  if (std::filesystem::is_directory(status)) return std::make_unique<FolderImages>(path, alpha);
  const std::string extension = lower_case_extension(path.filename().string());
  if (extension == ".npy" || extension == ".npz") return open_image_array(path);
  if (path.filename().string().ends_with(".tar.gz")) return open_image_cifar(path);
  EPD_REQUIRE(extension == ".zip", "images: ", path.string(),
              " is neither a folder nor a .zip, .npz or .npy file nor CIFAR-10's .tar.gz");
  return std::make_unique<ZipImages>(path, alpha);
}

namespace {

std::size_t num_threads(const PrefetchOptions& options, std::size_t num_images) {
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::max(options.threads, 1)), 1,
                                 std::max<std::size_t>(num_images, 1));
}

}  // namespace

Prefetcher::Prefetcher(const ImageSource& source, std::vector<std::size_t> indices, PrefetchOptions options)
    : source_(source),
      indices_(std::move(indices)),
      window_(std::max(options.window, num_threads(options, indices_.size()))),
      pool_(num_threads(options, indices_.size())) {
  fill_window();
}

void Prefetcher::fill_window() {
  while (ahead_.size() < window_ && next_ + ahead_.size() < indices_.size()) {
    const std::size_t index = indices_[next_ + ahead_.size()];
    ahead_.push_back(pool_.submit([this, index] { return source_.load(index); }));
  }
}

std::optional<Prefetcher::Item> Prefetcher::next() {
  if (failure_) std::rethrow_exception(failure_);
  if (ahead_.empty()) return std::nullopt;
  try {
    Item item{indices_[next_], ahead_.front().get()};
    ahead_.pop_front();
    ++next_;
    fill_window();
    return item;
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

}  // namespace epd
