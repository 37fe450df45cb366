#include <libdeflate.h>

#include "epd/core/error.h"
#include "epd/files/zip.h"

namespace epd {
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
