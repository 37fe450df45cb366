#include "epd/core/options.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace epd {

std::string Bounds::text() const {
  if (low == 0 && above_low && std::isinf(high)) return "a positive number";
  if (std::isinf(high)) return epd::text(number_text(low), above_low ? " or more, not the bound itself" : " or more");
  if (above_low || below_high) {
    return epd::text(number_text(low), above_low ? " < x " : " <= x ", below_high ? "< " : "<= ", number_text(high));
  }
  return epd::text(number_text(low), " to ", number_text(high));
}

bool Bounds::hold(double value) const {
  return (above_low ? value > low : value >= low) && (below_high ? value < high : value <= high);
}

void Option::check() const {
  if (kind != Kind::kNumber) return;
  for (const auto& word : get()) {
    EPD_REQUIRE_USAGE(info.bounds.hold(read_number<double>(word, name)), name, ": expected ", info.bounds.text(),
                      ", got ", word);
  }
}

Option& Options::add_row(std::string_view names, OptionInfo info) {
  Option row;
  row.group = group_;
  row.info = std::move(info);
  for (std::size_t start = 0; start <= names.size();) {
    const auto comma = std::min(names.find(',', start), names.size());
    const std::string name(names.substr(start, comma - start));
    start == 0 ? row.name = name : row.aliases.emplace_back(name);
    start = comma + 1;
  }
  rows_.push_back(std::move(row));
  return rows_.back();
}

Options& Options::add(Options others) {
  std::ranges::move(others, std::back_inserter(rows_));
  return *this;
}

void Options::check() const {
  for (const Option& row : rows_) row.check();
}

Option* Options::find(std::string_view name) {
  const auto row = std::ranges::find_if(
      rows_, [&](const Option& o) { return o.name == name || std::ranges::find(o.aliases, name) != o.aliases.end(); });
  return row == rows_.end() ? nullptr : &*row;
}

std::optional<bool> read_bool(std::string word) {
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (word == "true" || word == "1" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "0" || word == "no" || word == "off") return false;
  return std::nullopt;
}

std::string number_text(double value) {
  std::array<char, 32> buffer;
  return std::string(buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr);
}

}  // namespace epd
