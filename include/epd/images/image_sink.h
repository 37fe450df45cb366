#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "epd/files/atomic_file.h"

namespace epd {

/// Where encoded pictures go. ImageWriter calls it from its threads.
class ImageSink {
 public:
  virtual ~ImageSink() = default;
  /// Stores the bytes of one picture. Called from several threads at once unless needs_order().
  virtual void write(const std::string& name, std::string_view bytes) = 0;
  /// True: write() is called in the order of the pushes, one call at a time.
  virtual bool needs_order() const = 0;
  /// Called once after the last write, when all went well.
  virtual void finish() {}
};

/// Files below `folder`, each whole or absent (by rename, without fsync). Sub folders in names are created as needed.
/// A name that leaves the folder is refused.
std::unique_ptr<ImageSink> folder_sink(const std::filesystem::path& folder);

/// Entries of one zip archive in the order of the pushes, which appears at finish().
std::unique_ptr<ImageSink> zip_sink(const std::filesystem::path& path, Durability durability = Durability::kRename);

}  // namespace epd
