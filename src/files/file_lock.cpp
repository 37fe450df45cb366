#include "epd/files/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "epd/core/error.h"

namespace epd {
namespace {

std::string holder(int descriptor) {
  std::array<char, 256> bytes{};
  const auto count = ::pread(descriptor, bytes.data(), bytes.size() - 1, 0);
  return count > 0 ? bytes.data() : "another process";
}

std::string myself() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return text("process ", ::getpid(), " on ", host.data());
}

/// Whether the locked file is still the one that the name leads to: its last holder may have removed it.
bool still_named(int descriptor, const std::filesystem::path& path) {
  struct stat held {
  }, named{};
  return ::fstat(descriptor, &held) == 0 && ::stat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino &&
         held.st_dev == named.st_dev;
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& path)
    : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {}

bool FileLock::acquire() const { return ::flock(descriptor(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

FolderLock::FolderLock(const std::filesystem::path& folder) : path_(folder / ".lock"), lock_(path_) {
  while (true) {
    EPD_REQUIRE(lock_.is_open(), "cannot write in ", folder.string(), ": ", std::strerror(errno));
    EPD_REQUIRE(lock_.acquire(), folder.string(), " is in use by ", holder(lock_.descriptor()),
                "; wait for it, or choose another folder");
    if (still_named(lock_.descriptor(), path_)) break;
    lock_ = FileLock(path_);
  }
  const std::string who = myself();
  if (::ftruncate(lock_.descriptor(), 0) == 0) {
    // Only a courtesy to whoever meets the lock: a full disk must not stop a run that has nothing left to write.
    [[maybe_unused]] const auto written = ::pwrite(lock_.descriptor(), who.data(), who.size(), 0);
  }
}

FolderLock::~FolderLock() { ::unlink(path_.c_str()); }

}  // namespace epd
