#pragma once

#include <filesystem>

#include "epd/files/atomic_file.h"

namespace epd {

/// An open file that one holder at a time can lock. The lock goes with its holder, however the process ends; the file
/// stays where it is.
class FileLock {
 public:
  /// Opens the file to read and write, and makes it where it is missing; does not lock it yet.
  explicit FileLock(const std::filesystem::path& path);

  /// Whether the file could be opened; where not, errno says why.
  bool is_open() const { return file_.is_open(); }
  /// Whether the lock is ours now; does not wait. A file system without locks always says so.
  bool acquire() const;
  int descriptor() const { return file_.number(); }

 private:
  Descriptor file_;
};

/// Keeps other processes out of a folder as long as it lives, and no longer: the lock goes with the process, however
/// that ends. The file `.lock` in the folder names the process.
class FolderLock {
 public:
  /// Throws Error, naming the other process, when the folder is locked, and the system's reason when it cannot be
  /// written.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  /// The folder has this name now.
  void renamed(const std::filesystem::path& folder) { path_ = folder / ".lock"; }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path path_;
  FileLock lock_;
};

}  // namespace epd
