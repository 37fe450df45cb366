#pragma once

#include <filesystem>
#include <utility>

namespace epd {

/// An open file that one holder at a time can lock. The lock goes with its holder, however the process ends.
class FileLock {
 public:
  /// Opens the file to read and write, and makes it where it is missing; does not lock it yet.
  explicit FileLock(const std::filesystem::path& path);
  /// Lets go, and leaves the file where it is.
  ~FileLock();
  FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileLock& operator=(FileLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }

  /// Whether the file could be opened; where not, errno says why.
  bool is_open() const { return descriptor_ >= 0; }
  /// Whether the lock is ours now; does not wait. A file system without locks always says so.
  bool acquire() const;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace epd
