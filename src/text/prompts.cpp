#include "epd/text/prompts.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "csv_column.h"
#include "epd/core/error.h"

namespace epd {
namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EPD_REQUIRE(file && !std::filesystem::is_directory(path), "cannot read the prompt file ", path.string());
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

bool is_csv(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension == ".csv";
}

/// Lines end in LF or CR LF; the last one may.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

Prompts::Prompts(std::vector<std::string> captions, std::string path)
    : captions_(std::move(captions)), path_(std::move(path)) {
  EPD_REQUIRE(!captions_.empty(), path_, " holds no prompt");
}

Prompts Prompts::read(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  return {is_csv(path) ? csv_column(text, "text", path.string()) : lines_of(text), path.string()};
}

const std::string& Prompts::for_seed(std::uint64_t seed) const {
  EPD_REQUIRE_USAGE(seed < captions_.size(), path_, " has ", captions_.size(), " prompts, for the seeds 0 to ",
                    captions_.size() - 1, ": none for seed ", seed);
  return captions_[seed];
}

}  // namespace epd
