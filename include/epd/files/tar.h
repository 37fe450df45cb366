#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "epd/files/atomic_file.h"

namespace epd {

/// Reads a tar archive as ZipReader reads a zip: its files in any order, in any thread. A compressed one is unpacked
/// into a nameless temporary file first. Headers have checksums; what the files hold has none.
class TarReader {
 public:
  struct Entry {
    std::string name;
    std::uint64_t size = 0;
    std::uint64_t begin = 0;  // where its bytes are
  };

  /// Throws Error when the file is missing, no tar archive, damaged or cut short.
  explicit TarReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// The regular files, in the archive's order.
  const std::vector<Entry>& entries() const { return entries_; }
  /// The file of this name, the last one if it appears more than once.
  std::optional<std::size_t> find(const std::string& name) const;
  /// The whole file. Throws Error, before anything is allocated, where it is larger than `max_bytes`.
  std::string read(std::size_t index, std::uint64_t max_bytes) const;

 private:
  void read_index();

  std::filesystem::path path_;
  Descriptor file_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

}  // namespace epd
