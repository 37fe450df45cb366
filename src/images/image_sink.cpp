#include "epd/images/image_sink.h"

#include <mutex>
#include <unordered_set>
#include <utility>

#include "epd/core/error.h"
#include "epd/files/zip.h"

namespace epd {
namespace {

void require_inside(const std::string& name) {
  const std::filesystem::path path(name);
  bool inside = path.is_relative() && path.has_filename();
  for (const auto& part : path) inside = inside && part != "..";
  EPD_REQUIRE(inside, "a picture's name must stay inside its folder, got '", name, "'");
}

class FolderSink : public ImageSink {
 public:
  explicit FolderSink(std::filesystem::path folder) : folder_(std::move(folder)) { create(folder_); }

  void write(const std::string& name, std::string_view bytes) override {
    require_inside(name);
    const auto path = folder_ / name;
    create(path.parent_path());
    write_file(path, bytes);
  }
  bool needs_order() const override { return false; }

 private:
  void create(const std::filesystem::path& folder) {
    const std::lock_guard lock(mutex_);
    if (created_.contains(folder.string())) return;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    EPD_REQUIRE(!error && std::filesystem::is_directory(folder, error), "cannot create the folder ", folder.string(),
                ": ", error ? error.message() : "a file of this name is in the way");
    created_.insert(folder.string());
  }

  std::filesystem::path folder_;
  std::mutex mutex_;
  std::unordered_set<std::string> created_;
};

class ZipSink : public ImageSink {
 public:
  ZipSink(const std::filesystem::path& path, Durability durability) : zip_(path, durability) {}

  void write(const std::string& name, std::string_view bytes) override {
    require_inside(name);
    zip_.add(name, bytes);
  }
  bool needs_order() const override { return true; }
  void finish() override { zip_.finish(); }

 private:
  ZipWriter zip_;
};

}  // namespace

std::unique_ptr<ImageSink> folder_sink(const std::filesystem::path& folder) {
  return std::make_unique<FolderSink>(folder);
}

std::unique_ptr<ImageSink> zip_sink(const std::filesystem::path& path, Durability durability) {
  return std::make_unique<ZipSink>(path, durability);
}

}  // namespace epd
