#pragma once

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace epd {

/// A number as the shortest JSON text that reads back as the same float64. Throws Error for NaN and infinities.
std::string json_number(double value);
/// A text in quotes, with what JSON must escape escaped.
std::string json_string(std::string_view value);
/// "[1, 2.5]" on one line.
std::string json_numbers(const std::vector<double>& values);
std::string json_integers(const std::vector<int>& values);
/// A list of rows of numbers, a row a line.
std::string json_matrix(const std::vector<double>& values, std::size_t columns);

/// A JSON object being written: the fields stand in the order in which they were added, so the same values give the
/// same bytes.
class JsonObject {
 public:
  /// A value that is JSON already: from the functions above, or of another JsonObject.
  JsonObject& raw(std::string_view field, std::string value);
  JsonObject& add(std::string_view field, std::string_view value) { return raw(field, json_string(value)); }
  JsonObject& add(std::string_view field, const char* value) { return raw(field, json_string(value)); }
  JsonObject& add(std::string_view field, double value) { return raw(field, json_number(value)); }
  JsonObject& add(std::string_view field, std::integral auto value) { return raw(field, std::to_string(value)); }
  JsonObject& add(std::string_view field, bool value) { return raw(field, value ? "true" : "false"); }
  JsonObject& add(std::string_view field, const JsonObject& value) { return raw(field, value.pretty()); }
  JsonObject& null(std::string_view field) { return raw(field, "null"); }

  /// One field a line, indented, without a newline at the end.
  std::string pretty() const;
  /// All on one line.
  std::string line() const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

/// A list of objects, one a line.
std::string json_lines(const std::vector<JsonObject>& objects);

}  // namespace epd
