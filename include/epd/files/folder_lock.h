#pragma once

#include <filesystem>

#include "epd/files/file_lock.h"

namespace epd {

/// Keeps other processes out of a folder as long as it lives, and no longer: the lock goes with the process, however
/// that ends. The file `.lock` in the folder names the process.
class FolderLock {
 public:
  /// Throws Error, naming the other process, when the folder is locked, and the system's reason when it cannot be
  /// written.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path path_;
  FileLock lock_;
};

}  // namespace epd
