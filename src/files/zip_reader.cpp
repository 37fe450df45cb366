#include <zip.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include "epd/core/error.h"
#include "epd/files/zip.h"

namespace epd {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

struct CloseEntry {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using OpenEntry = std::unique_ptr<zip_file_t, CloseEntry>;

std::string message_of(int code) {
  if (code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS) return "it is no zip archive, or it is cut short";
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string message = zip_error_strerror(&error);
  zip_error_fini(&error);
  return message;
}

zip_t* open_archive(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  EPD_REQUIRE(std::filesystem::exists(status), "cannot read ", path.string(), ": it does not exist");
  EPD_REQUIRE(std::filesystem::is_regular_file(status), "cannot read ", path.string(), ": it is not a file");
  EPD_REQUIRE(std::filesystem::file_size(path, error) > 0 && !error, "cannot read ", path.string(), ": it is empty");
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_RDONLY, &code);
  EPD_REQUIRE(archive != nullptr, "cannot read ", path.string(), ": ", message_of(code));
  return archive;
}

std::string where(const ZipReader::Entry& entry, const std::filesystem::path& path) {
  return text("cannot read ", entry.name, " in ", path.string(), ": ");
}

/// Sizes are promises: they are held to what the archive can contain before anything is allocated.
void require_plausible(const zip_stat_t& stat, std::uint64_t archive_bytes, const std::filesystem::path& path) {
  bool plausible = stat.comp_size <= archive_bytes;
  if (stat.comp_method == ZIP_CM_STORE) plausible = plausible && stat.size == stat.comp_size;
  if (stat.comp_method == ZIP_CM_DEFLATE) plausible = plausible && stat.size <= stat.comp_size * kMaxDeflateRatio;
  EPD_REQUIRE(plausible, "cannot read ", path.string(), ": entry ", stat.name, " declares ", stat.size, " bytes in ",
              stat.comp_size, ", which the archive cannot hold");
}

}  // namespace

struct ZipReader::Archive {
  zip_t* handle = nullptr;
  std::vector<zip_uint64_t> numbers;  // libzip's number of each entry
  std::vector<std::size_t> by_name;   // indices of the entries, sorted by name
  std::mutex mutex;                   // libzip's handles are for one thread at a time

  ~Archive() {
    if (handle != nullptr) zip_discard(handle);
  }

  OpenEntry open(std::size_t index, const Entry& entry, const std::filesystem::path& path) const {
    OpenEntry file(zip_fopen_index(handle, numbers[index], 0));
    EPD_REQUIRE(file, where(entry, path), zip_strerror(handle));
    return file;
  }
  void fill(zip_file_t* file, char* out, std::size_t size, const Entry& entry,
            const std::filesystem::path& path) const {
    for (std::size_t filled = 0; filled < size;) {
      const zip_int64_t got = zip_fread(file, out + filled, size - filled);
      EPD_REQUIRE(got >= 0, where(entry, path), zip_file_strerror(file));
      EPD_REQUIRE(got > 0, where(entry, path), "unexpected end of file");
      filled += static_cast<std::size_t>(got);
    }
  }
};

ZipReader::~ZipReader() = default;

ZipReader::ZipReader(const std::filesystem::path& path) : path_(path), archive_(std::make_unique<Archive>()) {
  archive_->handle = open_archive(path);
  const auto archive_bytes = std::filesystem::file_size(path);
  const zip_int64_t count = zip_get_num_entries(archive_->handle, 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    const auto number = static_cast<zip_uint64_t>(i);
    EPD_REQUIRE(zip_stat_index(archive_->handle, number, 0, &stat) == 0 && stat.name != nullptr, "cannot read ",
                path.string(), ": entry ", i, ": ", zip_strerror(archive_->handle));
    const std::string name = stat.name;
    if (name.ends_with('/')) continue;
    require_plausible(stat, archive_bytes, path);
    archive_->numbers.push_back(number);
    entries_.push_back({name, stat.size, stat.comp_size, stat.comp_method == ZIP_CM_STORE});
  }
  archive_->by_name.resize(entries_.size());
  std::iota(archive_->by_name.begin(), archive_->by_name.end(), std::size_t{0});
  std::ranges::stable_sort(archive_->by_name, {},
                           [this](std::size_t i) -> const std::string& { return entries_[i].name; });
}

std::optional<std::size_t> ZipReader::find(std::string_view name) const {
  const auto name_of = [this](std::size_t i) -> std::string_view { return entries_[i].name; };
  const auto after = std::ranges::upper_bound(archive_->by_name, name, {}, name_of);
  if (after == archive_->by_name.begin() || name_of(*(after - 1)) != name) return std::nullopt;
  return *(after - 1);
}

void ZipReader::stream(std::size_t index, const std::function<void(std::string_view)>& consume) const {
  const Entry& entry = entries_.at(index);
  const std::lock_guard lock(archive_->mutex);
  const OpenEntry file = archive_->open(index, entry, path_);
  std::string piece(static_cast<std::size_t>(std::clamp<std::uint64_t>(entry.size, 1, kPiece)), '\0');
  std::uint64_t total = 0;
  // One read beyond the last byte: only then does libzip compare the CRC.
  while (true) {
    const zip_int64_t got = zip_fread(file.get(), piece.data(), piece.size());
    EPD_REQUIRE(got >= 0, where(entry, path_), zip_file_strerror(file.get()));
    if (got == 0) break;
    total += static_cast<std::uint64_t>(got);
    EPD_REQUIRE(total <= entry.size, where(entry, path_), "it holds more than the ", entry.size,
                " bytes that its header declares");
    consume(std::string_view(piece).substr(0, static_cast<std::size_t>(got)));
  }
  EPD_REQUIRE(total == entry.size, where(entry, path_), "it holds ", total, " bytes instead of ", entry.size);
}

std::string ZipReader::read(std::size_t index, std::uint64_t max_bytes) const {
  const Entry& entry = entries_.at(index);
  EPD_REQUIRE(entry.size <= max_bytes, where(entry, path_), "it has ", entry.size, " bytes, more than the ", max_bytes,
              " that are allowed");
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(entry.size));
  stream(index, [&](std::string_view piece) { bytes += piece; });
  return bytes;
}

std::string ZipReader::read_start(std::size_t index, std::size_t num_bytes) const {
  const Entry& entry = entries_.at(index);
  std::string bytes(static_cast<std::size_t>(std::min<std::uint64_t>(num_bytes, entry.size)), '\0');
  const std::lock_guard lock(archive_->mutex);
  const OpenEntry file = archive_->open(index, entry, path_);
  archive_->fill(file.get(), bytes.data(), bytes.size(), entry, path_);
  return bytes;
}

void ZipReader::read_range(std::size_t index, std::uint64_t offset, char* out, std::size_t num_bytes) const {
  const Entry& entry = entries_.at(index);
  EPD_REQUIRE(entry.stored && offset <= entry.size && num_bytes <= entry.size - offset, where(entry, path_), "bytes ",
              offset, " to ", offset + num_bytes, " cannot be read separately");
  const std::lock_guard lock(archive_->mutex);
  const OpenEntry file = archive_->open(index, entry, path_);
  EPD_REQUIRE(zip_fseek(file.get(), static_cast<zip_int64_t>(offset), SEEK_SET) == 0, where(entry, path_),
              zip_file_strerror(file.get()));
  archive_->fill(file.get(), out, num_bytes, entry, path_);
}

void require_undamaged(const std::filesystem::path& path) {
  const ZipReader zip(path);
  for (std::size_t i = 0; i < zip.size(); ++i) zip.stream(i, [](std::string_view) {});
}

}  // namespace epd
