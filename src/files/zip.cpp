#include "epd/files/zip.h"

#include <libdeflate.h>
#include <zip.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <numeric>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

struct CloseEntry {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using OpenEntry = std::unique_ptr<zip_file_t, CloseEntry>;

std::string message_of(int code) {
  if (code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS) return "it is no zip archive, or it is damaged or cut short";
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string message = zip_error_strerror(&error);
  zip_error_fini(&error);
  return message;
}

zip_t* open_archive(const std::filesystem::path& path, ZipReader::Check check) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  EPD_REQUIRE(std::filesystem::status_known(status), "cannot read ", path.string(), ": ", error.message());
  EPD_REQUIRE(std::filesystem::exists(status), "cannot read ", path.string(), ": it does not exist");
  EPD_REQUIRE(std::filesystem::is_regular_file(status), "cannot read ", path.string(), ": it is not a file");
  const auto size = std::filesystem::file_size(path, error);
  EPD_REQUIRE(!error, "cannot read ", path.string(), ": ", error.message());
  EPD_REQUIRE(size > 0, "cannot read ", path.string(), ": it is empty");
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_RDONLY | (check == ZipReader::Check::kBoth ? ZIP_CHECKCONS : 0), &code);
  if (archive == nullptr && code == ZIP_ER_MEMORY) throw std::bad_alloc();
  EPD_REQUIRE(archive != nullptr, "cannot read ", path.string(), ": ", message_of(code));
  return archive;
}

std::string where(const ZipReader::Entry& entry, const std::filesystem::path& path) {
  return text("cannot read ", entry.name, " in ", path.string(), ": ");
}

[[noreturn]] void fail(zip_error_t* error, const ZipReader::Entry& entry, const std::filesystem::path& path) {
  if (zip_error_code_zip(error) == ZIP_ER_MEMORY) throw std::bad_alloc();
  throw Error(where(entry, path) + zip_error_strerror(error));
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
    if (!file) fail(zip_get_error(handle), entry, path);
    return file;
  }
  void fill(zip_file_t* file, char* out, std::size_t size, const Entry& entry,
            const std::filesystem::path& path) const {
    for (std::size_t filled = 0; filled < size;) {
      const zip_int64_t got = zip_fread(file, out + filled, size - filled);
      if (got < 0) fail(zip_file_get_error(file), entry, path);
      EPD_REQUIRE(got > 0, where(entry, path), "unexpected end of file");
      filled += static_cast<std::size_t>(got);
    }
  }
};

ZipReader::~ZipReader() = default;

ZipReader::ZipReader(const std::filesystem::path& path, Check check)
    : path_(path), archive_(std::make_unique<Archive>()) {
  archive_->handle = open_archive(path, check);
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
    if (got < 0) fail(zip_file_get_error(file.get()), entry, path_);
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
  const bool found = zip_fseek(file.get(), static_cast<zip_int64_t>(offset), SEEK_SET) == 0;
  if (!found) fail(zip_file_get_error(file.get()), entry, path_);
  archive_->fill(file.get(), out, num_bytes, entry, path_);
}

void require_undamaged(const std::filesystem::path& path) {
  const ZipReader zip(path, ZipReader::Check::kBoth);
  for (std::size_t i = 0; i < zip.size(); ++i) zip.stream(i, [](std::string_view) {});
}

namespace {

// The format: PKWARE's APPNOTE.TXT 6.3, sections 4.3 (structure) and 4.5.3 (zip64).
constexpr std::uint32_t kFull32 = 0xFFFFFFFF;
constexpr std::uint16_t kDate1980 = (1 << 5) | 1;  // 1980-01-01, the earliest
constexpr std::uint16_t kVersion = 20, kVersionZip64 = 45, kMadeByUnix = 3 << 8, kUtf8 = 1 << 11, kZip64Extra = 1;
constexpr std::uint32_t kRegularFile0644 = 0100644u << 16;

/// Little-endian numbers, one after the other.
class Record {
 public:
  Record& u16(std::uint64_t value) { return put(value, 2); }
  Record& u32(std::uint64_t value) { return put(value, 4); }
  Record& u64(std::uint64_t value) { return put(value, 8); }
  Record& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  Record& put(std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes_ += static_cast<char>((value >> (8 * i)) & 0xFF);
    return *this;
  }
  std::string bytes_;
};

std::uint16_t flags_for(const std::string& name) {
  for (const char c : name) {
    if (static_cast<unsigned char>(c) > 127) return kUtf8;
  }
  return 0;
}

std::uint64_t capped(std::uint64_t value) { return value >= kFull32 ? kFull32 : value; }

}  // namespace

ZipWriter::ZipWriter(const std::filesystem::path& path, Durability durability) : file_(path, durability) {}

void ZipWriter::write_local_header(const Entry& entry, bool rewrite) {
  Record record;
  record.u32(0x04034b50).u16(entry.zip64 ? kVersionZip64 : kVersion).u16(flags_for(entry.name)).u16(0);
  record.u16(0).u16(kDate1980).u32(entry.crc);
  record.u32(entry.zip64 ? kFull32 : entry.size).u32(entry.zip64 ? kFull32 : entry.size);
  record.u16(entry.name.size()).u16(entry.zip64 ? 20 : 0).raw(entry.name);
  if (entry.zip64) record.u16(kZip64Extra).u16(16).u64(entry.size).u64(entry.size);
  if (rewrite) {
    file_.write_at(entry.offset, record.bytes());
  } else {
    file_.append(record.bytes());
  }
}

void ZipWriter::start(const std::string& name, bool zip64) {
  EPD_REQUIRE(!open_, "cannot write ", path().string(), ": ", name, " begins before ", entries_.back().name, " ends");
  EPD_REQUIRE(!name.empty() && name.size() < 0xFFFF, "cannot write ", path().string(), ": a name of ", name.size(),
              " bytes");
  EPD_REQUIRE(names_.insert(name).second, "cannot write ", path().string(), ": ", name, " is in it already");
  entries_.push_back({name, file_.size(), 0, 0, zip64});
}

void ZipWriter::add(const std::string& name, std::string_view bytes) {
  start(name, bytes.size() >= kFull32);
  Entry& entry = entries_.back();
  entry.size = bytes.size();
  entry.crc = libdeflate_crc32(0, bytes.data(), bytes.size());
  write_local_header(entry, false);
  file_.append(bytes);
}

void ZipWriter::begin(const std::string& name) {
  start(name, true);  // the size is not known yet, so it gets the wide field
  write_local_header(entries_.back(), false);
  open_ = true;
}

void ZipWriter::append(std::string_view bytes) {
  EPD_REQUIRE(open_, "cannot write ", path().string(), ": no entry is open");
  Entry& entry = entries_.back();
  file_.append(bytes);
  entry.size += bytes.size();
  entry.crc = libdeflate_crc32(entry.crc, bytes.data(), bytes.size());
}

void ZipWriter::end() {
  EPD_REQUIRE(open_, "cannot write ", path().string(), ": no entry is open");
  write_local_header(entries_.back(), true);
  open_ = false;
}

void ZipWriter::write_directory() {
  const std::uint64_t start = file_.size();
  for (const Entry& entry : entries_) {
    Record wide;  // what does not fit, in this order
    if (entry.size >= kFull32) wide.u64(entry.size).u64(entry.size);
    if (entry.offset >= kFull32) wide.u64(entry.offset);
    const std::size_t extra = wide.bytes().empty() ? 0 : wide.bytes().size() + 4;
    const std::uint16_t version = entry.zip64 || extra > 0 ? kVersionZip64 : kVersion;
    Record record;
    record.u32(0x02014b50).u16(kMadeByUnix | version).u16(version).u16(flags_for(entry.name)).u16(0);
    record.u16(0).u16(kDate1980).u32(entry.crc).u32(capped(entry.size)).u32(capped(entry.size));
    record.u16(entry.name.size()).u16(extra).u16(0).u16(0).u16(0).u32(kRegularFile0644).u32(capped(entry.offset));
    record.raw(entry.name);
    if (extra > 0) record.u16(kZip64Extra).u16(wide.bytes().size()).raw(wide.bytes());
    file_.append(record.bytes());
  }
  const std::uint64_t end = file_.size(), size = end - start, count = entries_.size();
  Record tail;
  if (count >= 0xFFFF || start >= kFull32 || size >= kFull32) {
    tail.u32(0x06064b50).u64(44).u16(kMadeByUnix | kVersionZip64).u16(kVersionZip64).u32(0).u32(0);
    tail.u64(count).u64(count).u64(size).u64(start);
    tail.u32(0x07064b50).u32(0).u64(end).u32(1);
  }
  const std::uint64_t short_count = count >= 0xFFFF ? 0xFFFF : count;
  tail.u32(0x06054b50).u16(0).u16(0).u16(short_count).u16(short_count).u32(capped(size)).u32(capped(start)).u16(0);
  file_.append(tail.bytes());
}

void ZipWriter::finish() {
  EPD_REQUIRE(!open_, "cannot write ", path().string(), ": ", entries_.back().name, " is not complete");
  write_directory();
  file_.commit();
}

}  // namespace epd
