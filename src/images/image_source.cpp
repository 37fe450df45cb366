#include "epd/images/image_source.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/files/atomic_file.h"
#include "epd/files/checksums.h"
#include "epd/files/json.h"
#include "epd/files/tar.h"
#include "epd/files/zip.h"
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

/// a.tar, a.tar.gz, a.tar.zst, a.tgz...
bool is_tar_name(const std::string& name) {
  const std::string ending = lower_case_extension(name);
  return ending == ".tar" || ending == ".tgz" || lower_case_extension(std::filesystem::path(name).stem()) == ".tar";
}

bool is_hidden(const std::string& name) {
  for (const auto& part : std::filesystem::path(name)) {
    if ((part.string().starts_with('.') && part != "." && part != "..") || part == "__MACOSX") return true;
  }
  return false;
}

/// What `sample` writes beside its images, and their checksums.
bool is_known(const std::string& name) {
  return name == "manifest.json" || name == Checksums::kFileName || name == "scores.json" ||
         name.starts_with("inters/");
}

/// Names that are left out of a set, for one warning.
struct LeftOut {
  std::size_t count = 0;
  std::string first;

  void add(const std::string& name) { first = count++ == 0 ? name : first; }
  void warn(const std::filesystem::path& where, const char* what) const {
    if (count > 0) log::warning(where.string(), ": ", count, ' ', what, " (", first, count > 1 ? ", ...)" : ")");
  }
};

/// Sorts out the names of a folder or archive.
class ImageNames {
 public:
  /// Adds the name (a path with '/') if it is an image's; keeps count of what is not. `regular`: it is a regular file.
  void add(const std::string& name, bool regular = true);
  /// The names, sorted, each once; one warning for each kind that was left out.
  std::vector<std::string> sorted(const std::filesystem::path& where);

 private:
  std::vector<std::string> names_;
  LeftOut hidden_, others_, irregular_, repeated_;
};

void ImageNames::add(const std::string& name, bool regular) {
  const std::string extension = lower_case_extension(name);
  if (is_hidden(name)) {
    hidden_.add(name);
  } else if (!regular) {
    irregular_.add(name);
  } else if (is_image_name(extension)) {
    names_.push_back(name);
  } else if (name != kLabelFile && !is_known(name)) {
    others_.add(name);
  }
}

std::vector<std::string> ImageNames::sorted(const std::filesystem::path& where) {
  std::ranges::sort(names_);
  for (std::size_t i = 1; i < names_.size(); ++i) {
    if (names_[i] == names_[i - 1]) repeated_.add(names_[i]);
  }
  names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  others_.warn(where, "files whose ending is not that of an image format that is read are ignored");
  irregular_.warn(where, "names that are not regular files (pipes, sockets, devices, links to nothing) are ignored");
  repeated_.warn(where, "names appear again; the last image of each name counts");
  if (hidden_.count > 0) log::info(where.string(), ": ", hidden_.count, " hidden files are ignored");
  return std::move(names_);
}

using Classes = std::unordered_map<std::string, int>;

int class_of(const Json& value, const std::string& name, const std::string& where) {
  const bool fits = value.is_number_unsigned()
                        ? std::in_range<int>(value.get<std::uint64_t>())
                        : value.is_number_integer() && std::in_range<int>(value.get<std::int64_t>());
  EPD_REQUIRE(fits, where, ": class ", shown(value.dump()), " of '", name, "' is not a whole number up to ",
              std::numeric_limits<int>::max());
  return value.get<int>();
}

/// name -> class from a dataset.json's text; empty where labels are null. Throws Error where they are not understood.
Classes parse_labels(std::string_view json, const std::string& where) {
  constexpr const char* kExpected = ": unknown label format, expected {\"labels\": [[name, class], ...]}";
  const auto document = Json::parse(json, nullptr, false);
  EPD_REQUIRE(document.is_object() && document.contains("labels"), where, kExpected);
  const auto& labels = document["labels"];
  EPD_REQUIRE(labels.is_array() || labels.is_null(), where, kExpected);
  Classes classes;
  for (const auto& pair : labels) {
    EPD_REQUIRE(pair.is_array() && pair.size() == 2 && pair[0].is_string(), where, kExpected);
    const auto& name = pair[0].get_ref<const std::string&>();
    const int number = class_of(pair[1], name, where);
    const int first = classes.emplace(name, number).first->second;
    EPD_REQUIRE(first == number, where, ": '", name, "' has two classes, ", first, " and ", number);
  }
  return classes;
}

/// What folders and archives share: sorted names and labels.
class NamedImages : public ImageSource {
 public:
  std::size_t size() const override { return names_.size(); }
  const std::string& name(std::size_t i) const override { return names_.at(i); }
  std::optional<int> label(std::size_t i) const override { return labels_.empty() ? std::nullopt : labels_.at(i); }
  std::size_t turned() const override { return turned_; }

 protected:
  explicit NamedImages(const ImageReading& reading) : reading_(reading) {}
  Image decode(std::string_view bytes, const std::string& where) const {
    if (bytes.starts_with("\xff\xd8") && exif_orientation(bytes) != 1) ++turned_;
    return decode_image(bytes, where, reading_.alpha, reading_.channels);
  }
  void set_names(std::vector<std::string> sorted_names, const std::filesystem::path& path) {
    EPD_REQUIRE(!sorted_names.empty(), "there are no images in ", path.string(),
                " (searched for *.png, *.jpg and other endings of images at every depth)");
    names_ = std::move(sorted_names);
  }
  void set_labels(std::string_view json, const std::string& where) {
    try {
      use(parse_labels(json, where), where);
    } catch (const Error& e) {
      refuse_labels(e.what(), reading_);
    }
  }

 private:
  void use(const Classes& classes, const std::string& where);

  std::vector<std::string> names_;
  std::vector<std::optional<int>> labels_;
  ImageReading reading_;
  mutable std::atomic<std::size_t> turned_{0};
};

/// Images without a class are the reader's to judge. Classes without an image are refused where none has one, and
/// dropped with a warning otherwise, as EDM's tool drops them.
void NamedImages::use(const Classes& classes, const std::string& where) {
  if (classes.empty()) return;
  LeftOut unknown;
  for (const auto& [name, number] : classes) {
    if (!std::ranges::binary_search(names_, name)) unknown.add(name);
  }
  EPD_REQUIRE(unknown.count < classes.size(), where, ": none of its ", classes.size(), " names is that of an image ('",
              unknown.first, "'; an image is '", names_.front(), "')");
  if (reading_.labels_matter) unknown.warn(where, "names are not those of images; their classes are dropped");
  for (const std::string& name : names_) {
    const auto found = classes.find(name);
    labels_.push_back(found == classes.end() ? std::nullopt : std::optional(found->second));
  }
}

/// The files below a folder, as paths relative to it; not the overview that `sample --grid` leaves. Links to files
/// count, links to folders are not followed: they could lead back.
std::vector<std::string> images_below(const std::filesystem::path& folder) {
  ImageNames names;
  LeftOut linked_folders;
  std::error_code ignored;  // of a link to nothing or to itself
  try {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().lexically_relative(folder).generic_string();
      if (entry.is_directory(ignored)) {
        if (entry.is_symlink()) linked_folders.add(name);
        continue;
      }
      if (name == "grid.png" && std::filesystem::exists(folder / "manifest.json")) continue;
      names.add(name, entry.is_regular_file(ignored));
    }
  } catch (const std::filesystem::filesystem_error& e) {
    throw Error(
        text("cannot read the folder ", folder.string(), ": ", e.code().message(), " (", e.path1().string(), ")"));
  }
  linked_folders.warn(folder, "links to folders are not followed");
  return names.sorted(folder);
}

class FolderImages : public NamedImages {
 public:
  FolderImages(const std::filesystem::path& folder, const ImageReading& reading)
      : NamedImages(reading), folder_(folder), checksums_(folder) {
    set_names(images_below(folder), folder);
    const auto labels = folder / kLabelFile;
    if (std::filesystem::is_regular_file(labels)) set_labels(read_checked(labels), labels.string());
  }
  Image load(std::size_t i) const override {
    const auto path = folder_ / name(i);
    const std::string bytes = read_file(path, kMaxEncodedBytes);
    checksums_.check(name(i), bytes);
    return decode(bytes, path.string());
  }

 private:
  std::filesystem::path folder_;
  Checksums checksums_;
};

/// Of a zip or tar archive.
template <class Reader>
class ArchiveImages : public NamedImages {
 public:
  ArchiveImages(const std::filesystem::path& path, const ImageReading& reading) : NamedImages(reading), archive_(path) {
    ImageNames names;
    for (const auto& entry : archive_.entries()) names.add(entry.name);
    set_names(names.sorted(path), path);
    for (std::size_t i = 0; i < size(); ++i) entries_.push_back(*archive_.find(name(i)));
    if (const auto labels = archive_.find(std::string(kLabelFile))) {
      set_labels(archive_.read(*labels, kMaxEncodedBytes), text(kLabelFile, " in ", path.string()));
    }
  }
  Image load(std::size_t i) const override {
    return decode(archive_.read(entries_.at(i), kMaxEncodedBytes), text(name(i), " in ", archive_.path().string()));
  }

 private:
  Reader archive_;
  std::vector<std::size_t> entries_;
};

}  // namespace

void refuse_labels(const std::string& why, const ImageReading& reading) {
  EPD_REQUIRE(!reading.labels_matter, why);
  log::warning(why, "; labels are ignored");
}

void remark_on_orientation(const ImageSource& source, const std::string& name) {
  if (const auto turned = source.turned(); turned > 0) {
    log::warning(name, ": the EXIF orientation of ", turned,
                 " images is not applied: they count as they are stored, as in EDM's and pytorch-fid's tools");
  }
}

Image ReadableImages::load(std::size_t i) const {
  try {
    return source_.load(i);
  } catch (const Error& e) {
    const std::lock_guard lock(mutex_);
    unreadable_.emplace(i, e.what());
    return {};
  }
}

std::unique_ptr<ImageSource> open_image_source(const std::filesystem::path& path, const ImageReading& reading) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  const bool is_url = path.string().find("://") != std::string::npos;
  EPD_REQUIRE(std::filesystem::exists(status), "images: ", path.string(),
              is_url ? " is a URL; download it first (curl -LO URL) and give the file" : " does not exist");
  if (std::filesystem::is_directory(status)) return std::make_unique<FolderImages>(path, reading);
  EPD_REQUIRE(std::filesystem::is_regular_file(status), "images: ", path.string(),
              " is neither a folder nor a regular file; pipes, sockets and devices are not read");
  Checksums(path.parent_path()).check(path.filename().string());
  const std::string extension = lower_case_extension(path.filename().string());
  if (extension == ".npy" || extension == ".npz") return open_image_array(path, reading);
  if (path.filename().string().ends_with(".tar.gz")) {
    if (auto cifar = open_image_cifar(path)) return cifar;
  }
  if (extension == ".zip") return std::make_unique<ArchiveImages<ZipReader>>(path, reading);
  EPD_REQUIRE(is_tar_name(path.filename().string()), "images: ", path.string(),
              " is neither a folder nor a .zip, .tar, .npz or .npy file nor CIFAR-10's .tar.gz");
  return std::make_unique<ArchiveImages<TarReader>>(path, reading);
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
