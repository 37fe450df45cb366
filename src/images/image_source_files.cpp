#include <algorithm>
#include <string>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/files/atomic_file.h"
#include "epd/files/zip.h"
#include "image_sources.h"

namespace epd {
namespace {

constexpr std::uint64_t kMaxEncodedBytes = std::uint64_t{1} << 30;

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
    EPD_REQUIRE(!names.empty(), "there are no pictures in ", path.string(),
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

std::unique_ptr<ImageSource> open_image_folder(const std::filesystem::path& folder, Alpha alpha) {
  return std::make_unique<FolderImages>(folder, alpha);
}

std::unique_ptr<ImageSource> open_image_zip(const std::filesystem::path& path, Alpha alpha) {
  return std::make_unique<ZipImages>(path, alpha);
}

}  // namespace epd
