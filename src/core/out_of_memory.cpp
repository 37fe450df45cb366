#include "epd/core/out_of_memory.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <new>
#include <string>
#include <utility>

namespace epd {
namespace {

bool says_out_of_memory(std::string_view what) {
  constexpr auto kWords = std::to_array<std::string_view>(
      {"out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "OutOfMemory"});
  return std::ranges::any_of(kWords, [&](auto words) { return what.find(words) != what.npos; });
}

/// The bytes named behind these words: "12 bytes", "2.5 GiB".
std::optional<double> bytes_behind(std::string_view what, std::string_view words) {
  const auto found = what.find(words);
  if (found == what.npos) return std::nullopt;
  auto stream = stream_of(std::string(what.substr(found + words.size())));
  double number = 0;
  std::string unit;
  if (!(stream >> number >> unit)) return std::nullopt;
  constexpr std::string_view kUnits = "KMGT";
  const auto power = kUnits.find(unit[0]);
  return number * (power == kUnits.npos ? 1 : std::pow(1024, power + 1));
}

std::string amount(double bytes) {
  constexpr double kGiB = 1 << 30, kMiB = 1 << 20;
  const bool big = bytes >= kGiB;
  return text(std::setprecision(3), bytes / (big ? kGiB : kMiB), big ? " GiB" : " MiB");
}

}  // namespace

std::optional<OutOfMemory> out_of_memory(const std::exception& e, std::string_view options) {
  if (const auto* known = dynamic_cast<const OutOfMemory*>(&e)) return *known;
  const std::string_view what = e.what();
  if (dynamic_cast<const std::bad_alloc*>(&e) == nullptr && !says_out_of_memory(what)) return std::nullopt;
  std::string line = text("out of memory: try smaller ", options);
  if (const auto asked = bytes_behind(what, "ried to allocate ")) {
    line += text(" (", amount(*asked), " asked for");
    const auto available = bytes_behind(what, " of which "), total = bytes_behind(what, "total capacity of ");
    if (available && total) line += text(", ", amount(*available), " of ", amount(*total), " free");
    line += ")";
  }
  return OutOfMemory(line);
}

}  // namespace epd
