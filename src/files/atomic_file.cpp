#include "epd/files/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::string_view kTemporaryPrefix = ".epd-tmp-";

/// The file that a rename would replace: links followed, so that the link survives.
std::filesystem::path resolve(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const auto target = std::filesystem::weakly_canonical(path, error);
  if (error) fail_with_errno("write", path, error.value());
  return target;
}

void refuse_what_is_no_file(const std::filesystem::path& target, const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(target.c_str(), &status) != 0) {
    if (errno != ENOENT) fail_with_errno("write", path, errno);
    return;
  }
  EPD_REQUIRE(!S_ISDIR(status.st_mode), "cannot write ", path.string(), ": it is a folder");
  EPD_REQUIRE(S_ISREG(status.st_mode), "cannot write ", path.string(), ": it is a device or pipe, not a file");
}

void sync_descriptor(int descriptor, const std::filesystem::path& path) {
  while (::fsync(descriptor) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOTSUP) return;  // a file system without it
    fail_with_errno("flush", path, errno);
  }
}

std::filesystem::path folder_of(const std::filesystem::path& target) {
  return target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
}

void sync_folder(const std::filesystem::path& target) {
  sync_descriptor(Descriptor::open_to_read(folder_of(target)).number(), folder_of(target));
}

/// The name that an open file without one can be linked by.
std::string own_path(int descriptor) { return text("/proc/self/fd/", descriptor); }

}  // namespace

Descriptor::~Descriptor() {
  if (is_open()) ::close(number_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

int Descriptor::release() { return std::exchange(number_, -1); }

Descriptor Descriptor::open_to_read(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) fail_with_errno("read", path, errno);
  return file;
}

Descriptor Descriptor::temporary() {
  std::error_code error;
  const auto folder = std::filesystem::temp_directory_path(error);
  if (error) {
    const char* const given = std::getenv("TMPDIR");
    throw Error(
        text("TMPDIR: cannot use ", given != nullptr ? given : "/tmp", " for temporary files: ", error.message()));
  }
  std::string name = (folder / "epd-XXXXXX").string();
  Descriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (!file.is_open()) fail_with_errno("write", name, errno);
  ::unlink(name.c_str());
  return file;
}

void write_all(int descriptor, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("write", path, errno);
    if (written == 0) fail_with_errno("write", path, ENOSPC);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void read_at(int descriptor, std::uint64_t offset, char* out, std::size_t num_bytes,
             const std::filesystem::path& path) {
  while (num_bytes > 0) {
    const ssize_t got = ::pread(descriptor, out, num_bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno("read", path, errno);
    EPD_REQUIRE(got > 0, "cannot read ", path.string(), ": unexpected end of file");
    out += got;
    offset += static_cast<std::uint64_t>(got);
    num_bytes -= static_cast<std::size_t>(got);
  }
}

void fail_with_errno(std::string_view what, const std::filesystem::path& path, int error) {
  throw Error(text("cannot ", what, ' ', path.string(), ": ", std::strerror(error)));
}

AtomicFile::AtomicFile(const std::filesystem::path& path, Durability durability)
    : path_(path), target_(resolve(path)), durability_(durability) {
  EPD_REQUIRE(path.has_filename(), "cannot write '", path.string(), "': not a file name");
  refuse_what_is_no_file(target_, path_);
  // Nameless until it is whole, where the file system can: a process that is killed leaves nothing behind.
  // 0666: the user's umask decides, as for any output.
  descriptor_ = Descriptor(::open(folder_of(target_).c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666));
  if (descriptor_.is_open() && ::access(own_path(descriptor_.number()).c_str(), F_OK) == 0) return;
  auto temporary = temporary_path(folder_of(target_));
  // O_EXCL: never another's file.
  descriptor_ = Descriptor(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!descriptor_.is_open()) fail_with_errno("write", path_, errno);
  temporary_ = std::move(temporary);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  descriptor_ = Descriptor();
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

bool AtomicFile::take_name(const std::filesystem::path& name) {
  const auto self = own_path(descriptor_.number());
  if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST) fail_with_errno("write", path_, errno);
  return false;
}

void AtomicFile::append(std::string_view bytes) {
  EPD_REQUIRE(descriptor_.is_open(), "cannot write ", path_.string(), ": it is complete already");
  write_all(descriptor_.number(), bytes, path_);
  size_ += bytes.size();
}

void AtomicFile::write_at(std::uint64_t offset, std::string_view bytes) {
  EPD_REQUIRE(descriptor_.is_open() && offset + bytes.size() <= size_, "cannot write ", path_.string(), ": bytes ",
              offset, " to ", offset + bytes.size(), " are not there yet");
  if (::lseek(descriptor_.number(), static_cast<off_t>(offset), SEEK_SET) < 0) fail_with_errno("write", path_, errno);
  write_all(descriptor_.number(), bytes, path_);
  if (::lseek(descriptor_.number(), 0, SEEK_END) < 0) fail_with_errno("write", path_, errno);
}

void AtomicFile::commit() {
  EPD_REQUIRE(descriptor_.is_open(), "cannot write ", path_.string(), ": it is complete already");
  try {
    if (durability_ == Durability::kSync) sync_descriptor(descriptor_.number(), path_);
    const bool is_new = temporary_.empty() && take_name(target_);
    if (!is_new && temporary_.empty()) {
      const auto name = temporary_path(folder_of(target_));
      EPD_REQUIRE(take_name(name), "cannot write ", path_.string(), ": there is a file ", name.string());
      temporary_ = name;
    }
    // Network file systems report a full disk here. After EINTR the descriptor is gone all the same (Linux).
    if (::close(descriptor_.release()) != 0 && errno != EINTR) fail_with_errno("write", path_, errno);
    if (!is_new) {
      refuse_what_is_no_file(target_, path_);
      if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_with_errno("write", path_, errno);
    }
  } catch (...) {
    discard();
    throw;
  }
  temporary_.clear();
  if (durability_ == Durability::kSync) sync_folder(target_);
}

void write_file(const std::filesystem::path& path, std::string_view bytes, Durability durability) {
  AtomicFile file(path, durability);
  file.append(bytes);
  file.commit();
}

std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const Descriptor file = Descriptor::open_to_read(path);
  std::string bytes;
  struct stat status {};
  if (::fstat(file.number(), &status) == 0 && S_ISREG(status.st_mode)) {
    bytes.reserve(
        static_cast<std::size_t>(std::min<std::uint64_t>(static_cast<std::uint64_t>(status.st_size), max_bytes)));
  }
  char buffer[1 << 16];
  while (bytes.size() <= max_bytes) {
    const ssize_t got = ::read(file.number(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno("read", path, errno);
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
  throw Error(text("cannot read ", path.string(), ": it is larger than ", max_bytes, " bytes"));
}

std::filesystem::path temporary_path(const std::filesystem::path& folder) {
  static std::atomic<unsigned> counter{0};
  struct timespec now {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return folder / text(kTemporaryPrefix, ::getpid(), '-', counter++, '-', now.tv_sec % 100000, now.tv_nsec);
}

bool is_temporary_name(std::string_view file_name) { return file_name.starts_with(kTemporaryPrefix); }

void remove_temporary_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> unfinished;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (is_temporary_name(entry.path().filename().string())) unfinished.push_back(entry.path());
  }
  for (const auto& path : unfinished) std::filesystem::remove(path);
}

}  // namespace epd
