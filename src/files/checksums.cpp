#include "epd/files/checksums.h"

#include <algorithm>
#include <cctype>

#include "epd/core/error.h"
#include "epd/core/sha256.h"
#include "epd/files/atomic_file.h"

namespace epd {

namespace fs = std::filesystem;

Checksums::Checksums(const fs::path& folder) : folder_(folder) {
  const fs::path path = folder_ / kFileName;
  std::error_code error;
  if (!fs::exists(path, error)) return;
  auto lines = stream_of(read_file(path, std::uint64_t{1} << 31));
  std::string line;
  for (std::size_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    // 64 digits, a blank, a blank or the * of binary files, the name
    std::string hash = line.substr(0, 64);
    const bool fits = line.size() > 66 && std::ranges::all_of(hash, [](unsigned char c) { return std::isxdigit(c); }) &&
                      line[64] == ' ' && (line[65] == ' ' || line[65] == '*');
    EPD_REQUIRE(fits, path.string(), ", line ", number, ": expected a SHA-256 and a name, as sha256sum writes them");
    std::ranges::transform(hash, hash.begin(), [](unsigned char c) { return std::tolower(c); });
    sums_[fs::path(line.substr(66)).lexically_normal().generic_string()] = hash;
  }
}

void Checksums::check(const std::string& name, std::string_view bytes) const {
  if (const auto found = sums_.find(name); found != sums_.end()) require(name, found->second == sha256_hex(bytes));
}

void Checksums::check(const std::string& name) const {
  const auto found = sums_.find(name);
  if (found != sums_.end()) require(name, found->second == sha256_of_file(folder_ / name));
}

void Checksums::require(const std::string& name, bool same) const {
  EPD_REQUIRE(same, (folder_ / name).string(), ": not the file that ", kFileName,
              " beside it lists: it is damaged, or another one (then take its line out)");
}

std::string read_checked(const fs::path& path) {
  std::string bytes = read_file(path);
  Checksums(path.parent_path()).check(path.filename().string(), bytes);
  return bytes;
}

}  // namespace epd
