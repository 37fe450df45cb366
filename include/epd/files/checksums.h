#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace epd {

/// What SHA256SUMS in a folder says of its files, as sha256sum writes it: for formats that have no checksum of their
/// own. A folder without one, and a file that it does not list, say nothing.
class Checksums {
 public:
  static constexpr const char* kFileName = "SHA256SUMS";

  explicit Checksums(const std::filesystem::path& folder);
  /// Throws Error, naming the file, where these are not the bytes of the file of that name that was listed.
  void check(const std::string& name, std::string_view bytes) const;
  /// The same of a file that is read piece by piece.
  void check(const std::string& name) const;

 private:
  void require(const std::string& name, bool same) const;

  std::filesystem::path folder_;
  std::map<std::string, std::string> sums_;  // by name
};

/// read_file, checked against SHA256SUMS beside it.
std::string read_checked(const std::filesystem::path& path);

}  // namespace epd
