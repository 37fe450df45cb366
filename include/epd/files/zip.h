#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "epd/files/atomic_file.h"

namespace epd {

/// Deflate never makes more than this many bytes of one: what promises more cannot keep it.
inline constexpr std::uint64_t kMaxDeflateRatio = 1032;

/// Reads a zip archive: stored and deflated entries, zip64. Safe in any thread (reads take turns). Every error is one
/// line with the archive's path and the entry's name.
class ZipReader {
 public:
  struct Entry {
    std::string name;
    std::uint64_t size = 0;  // uncompressed
    std::uint64_t compressed_size = 0;
    bool stored = false;  // not compressed
  };
  static constexpr std::uint64_t kMaxRead = std::uint64_t{1} << 32;

  /// What an archive says of an entry stands in two places: in front of its bytes, and in the directory at the end.
  enum class Check {
    kDirectory,  // the latter is read alone, which is fast where there are many
    kBoth        // names, sizes and checksums must be the same in both
  };
  /// Throws Error when the file is missing, no zip archive, damaged or cut short.
  explicit ZipReader(const std::filesystem::path& path, Check check = Check::kDirectory);
  ~ZipReader();

  const std::filesystem::path& path() const { return path_; }
  /// All entries but folders, in the archive's order.
  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  /// The entry of this name, the last one if it stands more than once.
  std::optional<std::size_t> find(std::string_view name) const;

  /// The whole entry, its CRC checked. An entry larger than `max_bytes` is refused before anything is allocated.
  std::string read(std::size_t index, std::uint64_t max_bytes = kMaxRead) const;
  /// The first bytes of an entry (fewer if it is shorter); no CRC check.
  std::string read_start(std::size_t index, std::size_t num_bytes) const;
  /// Bytes from the middle of a stored entry; no CRC check. Throws Error where the entry ends before.
  void read_range(std::size_t index, std::uint64_t offset, char* out, std::size_t num_bytes) const;
  /// The whole entry piece by piece, its CRC checked at the end.
  void stream(std::size_t index, const std::function<void(std::string_view)>& consume) const;

 private:
  struct Archive;
  std::filesystem::path path_;
  std::vector<Entry> entries_;
  std::unique_ptr<Archive> archive_;
};

/// Reads a whole archive for its CRCs, and throws Error, naming the entry, where one does not match: for files that are
/// given to LibTorch, which does not check them.
void require_undamaged(const std::filesystem::path& path);

/// Writes a zip archive of stored entries, dated 1980-01-01, so that the bytes depend on names and contents alone.
/// Entries go to the disk as they are added; zip64 where sizes need it; the archive appears whole, by rename, at
/// finish(). Not for several threads at once.
class ZipWriter {
 public:
  explicit ZipWriter(const std::filesystem::path& path, Durability durability = Durability::kRename);

  void add(const std::string& name, std::string_view bytes);
  /// An entry in pieces: begin, append..., end.
  void begin(const std::string& name);
  void append(std::string_view bytes);
  void end();
  void finish();

  std::size_t size() const { return entries_.size(); }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  struct Entry {
    std::string name;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint32_t crc = 0;
    bool zip64 = false;  // the local header has 64-bit sizes
  };
  void start(const std::string& name, bool zip64);
  void write_local_header(const Entry& entry, bool rewrite);
  void write_directory();

  AtomicFile file_;
  std::vector<Entry> entries_;
  std::unordered_set<std::string> names_;
  bool open_ = false;
};

}  // namespace epd
