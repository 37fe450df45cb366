#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace epd {

/// The captions of a file: caption number i belongs to seed i, whatever other seeds are asked for.
class Prompts {
 public:
  /// A file called *.csv is RFC 4180 with a header line that has the column `text`, and may have negative_prompt, blank
  /// lines left out; any other file has one caption a line, a blank line being an empty caption. Throws Error, naming
  /// the file and the row.
  static Prompts read(const std::filesystem::path& path);

  /// Throws UsageError for a seed beyond the last caption.
  const std::string& for_seed(std::uint64_t seed) const;
  /// The same for any seed: beyond the last caption they begin again.
  const std::string& for_any_seed(std::uint64_t seed) const { return captions_[seed % captions_.size()]; }
  /// The negative prompt of any seed; empty where there is none.
  std::string negative(std::uint64_t seed) const { return has_negatives() ? negatives_[seed % negatives_.size()] : ""; }
  bool has_negatives() const { return !negatives_.empty(); }
  std::size_t size() const { return captions_.size(); }

 private:
  Prompts(std::vector<std::string> captions, std::vector<std::string> negatives, std::string path);

  std::vector<std::string> captions_, negatives_;
  std::string path_;
};

/// The first "(word:1.3)" of a text, as other programs write the weight of a word; empty where there is none. A time
/// such as (at 10:30) is not one.
std::string weight_in(const std::string& prompt);

}  // namespace epd
