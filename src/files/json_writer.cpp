#include "epd/files/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>
#include <functional>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::string_view kIndent = "  ";

/// Two blanks more before every line but the first.
std::string indented(std::string_view block) {
  std::string result;
  for (const char c : block) {
    result += c;
    if (c == '\n') result += kIndent;
  }
  return result;
}

std::string join(std::size_t size, std::string_view separator, const std::function<std::string(std::size_t)>& item) {
  std::string result;
  for (std::size_t i = 0; i < size; ++i) {
    if (i > 0) result += separator;
    result += item(i);
  }
  return result;
}

/// Blocks between brackets, each on lines of its own.
std::string stacked(std::size_t size, const std::function<std::string(std::size_t)>& item) {
  if (size == 0) return "[]";
  return "[\n" + std::string(kIndent) + indented(join(size, ",\n", item)) + "\n]";
}

/// A block on one line. Safe on JSON: a newline inside a text is escaped, so every newline here is layout.
std::string flattened(std::string_view block) {
  std::string result;
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (block[i] != '\n') {
      result += block[i];
      continue;
    }
    while (i + 1 < block.size() && block[i + 1] == ' ') ++i;
    if (!result.empty() && result.back() == ',') result += ' ';
  }
  return result;
}

}  // namespace

std::string json_number(double value) {
  EPD_REQUIRE(std::isfinite(value), "a number that is not finite (", value, ") cannot be written as JSON");
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return std::string(digits.data(), end);
}

std::string json_string(std::string_view value) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      result += "\\u00";
      result += kHex[static_cast<unsigned char>(c) / 16];
      result += kHex[static_cast<unsigned char>(c) % 16];
    } else {
      result += c;
    }
  }
  return result + "\"";
}

std::string json_numbers(const std::vector<double>& values) {
  return "[" + join(values.size(), ", ", [&](std::size_t i) { return json_number(values[i]); }) + "]";
}

std::string json_integers(const std::vector<int>& values) {
  return "[" + join(values.size(), ", ", [&](std::size_t i) { return std::to_string(values[i]); }) + "]";
}

std::string json_matrix(const std::vector<double>& values, std::size_t columns) {
  return stacked(values.size() / columns, [&](std::size_t row) {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(row * columns);
    return json_numbers({first, first + static_cast<std::ptrdiff_t>(columns)});
  });
}

JsonObject& JsonObject::raw(std::string_view field, std::string value) {
  fields_.emplace_back(field, std::move(value));
  return *this;
}

std::string JsonObject::pretty() const {
  if (fields_.empty()) return "{}";
  const auto field = [&](std::size_t i) { return json_string(fields_[i].first) + ": " + fields_[i].second; };
  return "{\n" + std::string(kIndent) + indented(join(fields_.size(), ",\n", field)) + "\n}";
}

std::string JsonObject::line() const { return flattened(pretty()); }

std::string json_lines(const std::vector<JsonObject>& objects) {
  return stacked(objects.size(), [&](std::size_t i) { return objects[i].line(); });
}

}  // namespace epd
