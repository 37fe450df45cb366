#include "epd/files/descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "epd/core/error.h"

namespace epd {

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

int Descriptor::release() { return std::exchange(number_, -1); }

Descriptor Descriptor::open_to_read(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number() < 0) fail_with_errno("read", path, errno);
  return file;
}

Descriptor Descriptor::temporary() {
  std::string name = (std::filesystem::temp_directory_path() / "epd-XXXXXX").string();
  Descriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (file.number() < 0) fail_with_errno("write", name, errno);
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
    EPD_REQUIRE(got > 0, "cannot read ", path.string(), ": it ends early");
    out += got;
    offset += static_cast<std::uint64_t>(got);
    num_bytes -= static_cast<std::size_t>(got);
  }
}

void fail_with_errno(std::string_view what, const std::filesystem::path& path, int error) {
  throw Error(text("cannot ", what, ' ', path.string(), ": ", std::strerror(error)));
}

}  // namespace epd
