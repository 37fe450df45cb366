#include "epd/files/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::size_t kBlock = 1 << 16;

/// What libarchive reads. Its archive_read_open_fd and archive_read_next_header use what they could not allocate.
struct Input {
  int descriptor;
  std::string piece = std::string(kBlock, '\0');
};

la_ssize_t on_read(archive* reader, void* data, const void** out) {
  auto& input = *static_cast<Input*>(data);
  *out = input.piece.data();
  ssize_t got = -1;
  do {
    got = ::read(input.descriptor, input.piece.data(), input.piece.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) archive_set_error(reader, errno, "%s", std::strerror(errno));
  return got;
}

la_int64_t on_skip(archive*, void* data, la_int64_t count) {
  return ::lseek(static_cast<Input*>(data)->descriptor, count, SEEK_CUR) < 0 ? 0 : count;
}

bool is_open(archive* reader, Input& input) {
  archive_read_set_read_callback(reader, on_read);
  archive_read_set_skip_callback(reader, on_skip);
  return archive_read_set_callback_data(reader, &input) == ARCHIVE_OK && archive_read_open1(reader) == ARCHIVE_OK;
}

using OwnedEntry = std::unique_ptr<archive_entry, decltype(&archive_entry_free)>;

OwnedEntry new_entry() {
  OwnedEntry entry(archive_entry_new(), archive_entry_free);
  if (!entry) throw std::bad_alloc();
  return entry;
}

using Archive = std::unique_ptr<archive, decltype(&archive_read_free)>;

Archive new_archive() {
  Archive reader(archive_read_new(), archive_read_free);
  if (!reader) throw std::bad_alloc();
  return reader;
}

void require(bool good, archive* reader, const std::filesystem::path& path) {
  if (!good && archive_errno(reader) == ENOMEM) throw std::bad_alloc();
  const char* const reason = archive_error_string(reader);
  EPD_REQUIRE(good, "cannot read the archive ", path.string(), ": ", reason != nullptr ? reason : "it is damaged");
}

/// The file itself where nothing is compressed, else its bytes in a nameless temporary file.
Descriptor uncompressed(const std::filesystem::path& path) {
  Descriptor file = Descriptor::open_to_read(path);
  Input input{file.number()};
  const Archive reader = new_archive();
  const OwnedEntry entry = new_entry();
  require(archive_read_support_filter_all(reader.get()) >= ARCHIVE_WARN, reader.get(), path);
  require(archive_read_support_format_raw(reader.get()) == ARCHIVE_OK, reader.get(), path);
  require(is_open(reader.get(), input), reader.get(), path);
  require(archive_read_next_header2(reader.get(), entry.get()) == ARCHIVE_OK, reader.get(), path);
  if (archive_filter_count(reader.get()) <= 1) return file;
  Descriptor unpacked = Descriptor::temporary();
  const auto folder = std::filesystem::temp_directory_path();
  std::string piece(kBlock, '\0');
  while (true) {
    const auto got = archive_read_data(reader.get(), piece.data(), piece.size());
    require(got >= 0, reader.get(), path);
    if (got == 0) return unpacked;
    write_all(unpacked.number(), std::string_view(piece).substr(0, static_cast<std::size_t>(got)), folder);
  }
}

}  // namespace

TarReader::TarReader(const std::filesystem::path& path) : path_(path), file_(uncompressed(path)) { read_index(); }

void TarReader::read_index() {
  struct stat status {};
  const bool rewound = ::lseek(file_.number(), 0, SEEK_SET) == 0 && ::fstat(file_.number(), &status) == 0;
  if (!rewound) fail_with_errno("read", path_, errno);
  Input input{file_.number()};
  const Archive reader = new_archive();
  const OwnedEntry owner = new_entry();
  archive_entry* const entry = owner.get();
  require(archive_read_support_format_tar(reader.get()) == ARCHIVE_OK, reader.get(), path_);
  require(is_open(reader.get(), input), reader.get(), path_);
  while (true) {
    const int result = archive_read_next_header2(reader.get(), entry);
    if (result == ARCHIVE_EOF) return;
    require(result == ARCHIVE_OK, reader.get(), path_);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr) continue;
    const char* const name = archive_entry_pathname(entry);
    EPD_REQUIRE(name != nullptr && archive_entry_sparse_count(entry) == 0, "cannot read the archive ", path_.string(),
                ": entry ", entries_.size(), " has no name or is sparse");
    const Entry found{name, static_cast<std::uint64_t>(archive_entry_size(entry)),
                      static_cast<std::uint64_t>(archive_filter_bytes(reader.get(), 0))};
    const auto archive_bytes = static_cast<std::uint64_t>(status.st_size);
    EPD_REQUIRE(found.begin <= archive_bytes && found.size <= archive_bytes - found.begin, "cannot read ", name, " in ",
                path_.string(), ": the archive is cut short");
    by_name_[found.name] = entries_.size();
    entries_.push_back(found);
  }
}

std::optional<std::size_t> TarReader::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? std::nullopt : std::optional(found->second);
}

std::string TarReader::read(std::size_t index, std::uint64_t max_bytes) const {
  const Entry& entry = entries_.at(index);
  EPD_REQUIRE(entry.size <= max_bytes, "cannot read ", entry.name, " in ", path_.string(), ": it has ", entry.size,
              " bytes, more than the ", max_bytes, " that are allowed");
  std::string bytes(static_cast<std::size_t>(entry.size), '\0');
  read_at(file_.number(), entry.begin, bytes.data(), bytes.size(), path_);
  return bytes;
}

}  // namespace epd
