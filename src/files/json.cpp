#include "epd/files/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/sha256.h"

namespace epd {
namespace {

using nlohmann::json;

/// What nlohmann says went wrong, without its own prefix and without bytes that a terminal would stumble over.
std::string reason_of(const json::exception& error) {
  std::string reason = error.what();
  if (const auto start = reason.find("; "); start != std::string::npos) {
    reason = reason.substr(start + 2);
  } else if (const auto bracket = reason.find("] "); bracket != std::string::npos) {
    reason = reason.substr(bracket + 2);
  }
  for (char& c : reason) {
    if (c < ' ' || c > '~') c = '?';
  }
  constexpr std::size_t kLongest = 160;
  return reason.substr(0, kLongest);
}

/// "line 3, column 7" of a byte of the text, counted from 1.
std::string position(std::string_view text_, std::size_t byte) {
  const auto before = text_.substr(0, std::min(byte > 0 ? byte - 1 : 0, text_.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto line_start = before.rfind('\n');
  const auto column = before.size() - (line_start == before.npos ? 0 : line_start + 1) + 1;
  return text("line ", line, ", column ", column);
}

json parse_strictly(std::string_view text_, const std::string& where) {
  std::vector<std::set<std::string>> open_objects;
  const auto refuse_repeated = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      EPD_REQUIRE(open_objects.back().insert(name).second, where, ": ", name, ": duplicate field");
    }
    return true;
  };
  try {
    return json::parse(text_, refuse_repeated);
  } catch (const json::parse_error& error) {
    const bool cut = error.byte > text_.size();
    throw Error(text(where, ": ", cut ? "not valid JSON, or cut short, at " : "not valid JSON at ",
                     position(text_, error.byte), ": ", reason_of(error)));
  } catch (const json::exception& error) {
    throw Error(text(where, ": not valid JSON: ", reason_of(error)));
  }
}

constexpr int kOneLine = 3;  // levels of a document; what is deeper stands on one line

std::string scalar_text(const Json& value) {
  if (!value.is_number_float()) return value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  const auto number = value.get<double>();
  EPD_REQUIRE(std::isfinite(number), "a number that is not finite (", number, ") cannot be written as JSON");
  std::array<char, 32> digits;
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr};
}

void append(std::string& out, const Json& value, int level) {
  if (!value.is_structured()) {
    out += scalar_text(value);
    return;
  }
  const bool is_object = value.is_object();
  const bool stacked =
      !value.empty() && level < kOneLine && (is_object ? level + 1 < kOneLine : value.front().is_structured());
  const auto line = [&](int indent) { return "\n" + std::string(2 * static_cast<std::size_t>(indent), ' '); };
  out += is_object ? '{' : '[';
  bool first = true;
  for (const auto& [name, entry] : value.items()) {
    out += stacked ? (first ? "" : ",") + line(level + 1) : first ? "" : ", ";
    if (is_object) out += scalar_text(name) + ": ";
    append(out, entry, is_object ? level + 1 : kOneLine);
    first = false;
  }
  if (stacked) out += line(level);
  out += is_object ? '}' : ']';
}

}  // namespace

std::string valid_utf8(std::string_view value) {
  return json::parse(json(value).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

std::string json_text(const Json& value) {
  std::string out;
  append(out, value, 0);
  return out;
}

std::string json_line(const Json& value) {
  std::string out;
  append(out, value, kOneLine);
  return out;
}

constexpr std::string_view kSeal = ",\n  \"sha256\": \"";

std::string sealed(std::string text) {
  text.resize(text.rfind("\n}"));
  const std::string hash = sha256_hex(text);
  return text.append(kSeal).append(hash).append("\"\n}\n");
}

struct JsonReader::Node {
  json value;

  /// The reader's field, which now counts as asked for.
  static const json& field(JsonReader& reader, const std::string& name) {
    reader.asked_.insert(name);
    const auto found = reader.node_->value.find(name);
    if (found == reader.node_->value.end()) reader.fail(name, "missing");
    return *found;
  }
  static double number(const JsonReader& reader, const std::string& name, const json& value) {
    if (!value.is_number()) reader.fail(name, text("expected a number, found ", value.type_name()));
    return value.get<double>();
  }
  static void append_numbers(const JsonReader& reader, const std::string& name, const json& list,
                             std::vector<double>& numbers) {
    if (!list.is_array()) reader.fail(name, text("expected a list of numbers, found ", list.type_name()));
    for (const json& value : list) numbers.push_back(number(reader, name, value));
  }
};

JsonReader::JsonReader(std::shared_ptr<const Node> node, std::string where)
    : node_(std::move(node)), where_(std::move(where)) {}

JsonReader JsonReader::parse(std::string_view text, std::string where) {
  auto node = std::make_shared<const Node>(Node{parse_strictly(text, where)});
  EPD_REQUIRE(node->value.is_object(), where, ": expected a JSON object, found ", node->value.type_name());
  return JsonReader(std::move(node), std::move(where));
}

void JsonReader::fail(const std::string& field, const std::string& what) const {
  throw Error(text(where_, ": ", field, ": ", what));
}

bool JsonReader::has(const std::string& field) const { return node_->value.contains(field); }

bool JsonReader::is_null(const std::string& field) {
  asked_.insert(field);
  return !has(field) || node_->value[field].is_null();
}

bool JsonReader::is_boolean(const std::string& field) { return Node::field(*this, field).is_boolean(); }

std::vector<std::string> JsonReader::fields() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : node_->value.items()) names.push_back(name);
  return names;
}

std::string JsonReader::string(const std::string& field) {
  const json& value = Node::field(*this, field);
  if (!value.is_string()) fail(field, text("expected a string, found ", value.type_name()));
  return value.get<std::string>();
}

bool JsonReader::boolean(const std::string& field) {
  const json& value = Node::field(*this, field);
  if (!value.is_boolean()) fail(field, text("expected true or false, found ", value.type_name()));
  return value.get<bool>();
}

double JsonReader::number(const std::string& field) { return Node::number(*this, field, Node::field(*this, field)); }

std::int64_t JsonReader::integer(const std::string& field, std::int64_t low, std::int64_t high) {
  const json& value = Node::field(*this, field);
  if (!value.is_number_integer()) fail(field, text("expected an integer, found ", value.dump()));
  const bool fits = !value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX;
  const auto number = fits ? value.get<std::int64_t>() : INT64_MAX;
  if (!fits || number < low || number > high) {
    fail(field, text("expected ", low, " to ", high, ", found ", value.dump()));
  }
  return number;
}

std::vector<double> JsonReader::numbers(const std::string& field) {
  std::vector<double> result;
  Node::append_numbers(*this, field, Node::field(*this, field), result);
  return result;
}

std::vector<double> JsonReader::numbers(const std::string& field, std::size_t size) {
  auto result = numbers(field);
  if (result.size() != size) fail(field, text("expected ", size, " numbers, found ", result.size()));
  return result;
}

std::vector<double> JsonReader::matrix(const std::string& field, std::size_t rows, std::size_t columns) {
  const json& value = Node::field(*this, field);
  if (!value.is_array() || value.size() != rows) {
    fail(field, text("expected ", rows, " lists of ", columns, " numbers, found ",
                     value.is_array() ? text(value.size(), " entries") : value.type_name()));
  }
  std::vector<double> result;
  for (const json& row : value) {
    const std::size_t before = result.size();
    Node::append_numbers(*this, field, row, result);
    if (result.size() - before != columns) {
      fail(field, text("expected ", columns, " numbers a list, found ", result.size() - before));
    }
  }
  return result;
}

JsonReader JsonReader::object(const std::string& field) {
  const json& value = Node::field(*this, field);
  if (!value.is_object()) fail(field, text("expected an object, found ", value.type_name()));
  return JsonReader(std::make_shared<const Node>(Node{value}), text(where_, ": ", field));
}

std::vector<JsonReader> JsonReader::objects(const std::string& field) {
  const json& list = Node::field(*this, field);
  if (!list.is_array()) fail(field, text("expected a list of objects, found ", list.type_name()));
  std::vector<JsonReader> result;
  for (const json& value : list) {
    const auto name = text(field, " ", result.size());
    if (!value.is_object()) fail(name, text("expected an object, found ", value.type_name()));
    result.push_back(JsonReader(std::make_shared<const Node>(Node{value}), text(where_, ": ", name)));
  }
  return result;
}

void JsonReader::check_seal(std::string_view content) {
  if (!has("sha256")) return;
  const auto seal = content.rfind(kSeal);
  if (seal == content.npos || string("sha256") != sha256_hex(content.substr(0, seal))) {
    fail("sha256", "the text before it has another one: the file is damaged, or edited (then take the field out)");
  }
}

void JsonReader::finish() const {
  for (const auto& name : fields()) {
    if (!asked_.contains(name)) fail(name, "unknown field");
  }
}

}  // namespace epd
