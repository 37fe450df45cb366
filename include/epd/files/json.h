#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace epd {

/// The text with U+FFFD in place of bytes that are not UTF-8, as file names may have.
std::string valid_utf8(std::string_view value);

/// JSON to be written: the fields of an object stay in the order in which they were added.
using Json = nlohmann::ordered_json;

/// The text of a document, without a newline at the end: the fields of two levels of objects stand on lines of their
/// own, and so do the entries of a list of lists or objects; all else is on one line. A number is the shortest text
/// that reads back as the same float64, so the same values give the same bytes. Throws Error for NaN and infinities.
std::string json_text(const Json& json);
/// The same on one line.
std::string json_line(const Json& json);
/// A document's text, which ends in "\n}\n", with a seal as its last field: "sha256", that of the text before it.
std::string sealed(std::string text);
/// null where there is none.
template <class T>
Json json_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

/// A JSON object read field by field, strictly. Every error is one line that names the file and the field: broken or
/// truncated JSON, a field that is missing, of another type, out of its bounds, given twice or unknown.
/// NaN and Infinity are no JSON and are refused with it.
class JsonReader {
 public:
  /// `where` is the file's path, for messages. Throws Error unless the text is one JSON object.
  static JsonReader parse(std::string_view text, std::string where);

  /// The object's name in messages, such as "predictor.json: schedule".
  const std::string& where() const { return where_; }
  bool has(const std::string& field) const;
  /// True for a field that is absent or null. It counts as asked for.
  bool is_null(const std::string& field);
  /// Whether the field is true or false. It counts as asked for.
  bool is_boolean(const std::string& field);
  /// The names of all fields, sorted.
  std::vector<std::string> fields() const;

  std::string string(const std::string& field);
  bool boolean(const std::string& field);
  double number(const std::string& field);
  /// Throws Error outside [low, high], and for 3.0 as for 3.5: an integer is written as one.
  std::int64_t integer(const std::string& field, std::int64_t low, std::int64_t high);
  /// A list of numbers; with `size` given, of exactly so many.
  std::vector<double> numbers(const std::string& field);
  std::vector<double> numbers(const std::string& field, std::size_t size);
  /// rows lists of `columns` numbers each, row after row.
  std::vector<double> matrix(const std::string& field, std::size_t rows, std::size_t columns);
  JsonReader object(const std::string& field);
  /// A list of objects.
  std::vector<JsonReader> objects(const std::string& field);

  /// Throws Error where `content`, the object's own text, has a seal that does not fit. A text without one may be one
  /// that somebody wrote or edited by hand.
  void check_seal(std::string_view content);
  /// Throws Error for the first field that nobody asked for: a misspelt option must not be passed over in silence.
  void finish() const;
  /// Throws Error "where: field: what".
  [[noreturn]] void fail(const std::string& field, const std::string& what) const;

 private:
  struct Node;
  JsonReader(std::shared_ptr<const Node> node, std::string where);

  std::shared_ptr<const Node> node_;
  std::string where_;
  std::set<std::string> asked_;
};

}  // namespace epd
