#include "epd/files/options_json.h"

#include <algorithm>

#include "epd/core/sha256.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

Json json_of(Option::Kind kind, const std::string& word) {
  if (kind == Option::Kind::kNumber) return Json::parse(word);
  const auto yes_or_no = kind == Option::Kind::kBool ? read_bool(word) : std::nullopt;
  return yes_or_no ? Json(*yes_or_no) : Json(valid_utf8(word));
}

/// "model_path" -> "model_sha256".
std::string hash_name(std::string name) {
  if (name.ends_with("_path")) name.resize(name.size() - 5);
  return name + "_sha256";
}

void add_decisive(Json& record, const Option& option) {
  const auto words = option.get();
  std::error_code ignored;
  if (option.info.decides == Decides::kContent && !words.empty() && fs::is_regular_file(words.front(), ignored)) {
    record[hash_name(option.name)] = sha256_of_file(words.front());
  } else {
    record[option.name] = option_json(option);
  }
}

std::string shown_json(const Json& value) { return shown(value.dump(-1, ' ', false, Json::error_handler_t::replace)); }

std::string scalar_text(const Json& value, const std::string& name) {
  EPD_REQUIRE_USAGE(value.is_string() || value.is_number() || value.is_boolean(), name,
                    ": expected text, a number or a boolean, got ", shown_json(value));
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::vector<std::string> words_of(const Json& value, const std::string& name) {
  if (!value.is_array()) return {scalar_text(value, name)};
  std::vector<std::string> words;
  for (const auto& item : value) words.push_back(scalar_text(item, name));
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string result;
  for (const auto& word : words) result += (result.empty() ? "" : ",") + word;
  return result;
}

void set(Options& options, std::string name, const Json& value) {
  std::ranges::replace(name, '-', '_');
  Option* const option = options.find(name);
  EPD_REQUIRE_USAGE(option != nullptr && option->name != "config", "unknown option '", shown(name), "'");
  if (value.is_null() || option->given) return;
  const auto words = words_of(value, name);
  if (joined(words).empty() && !option->is_list) return;
  option->set(option->is_list ? words : std::vector<std::string>{joined(words)});
  option->check();
  option->given = true;
}

}  // namespace

Json option_json(const Option& option) {
  const auto words = option.get();
  if (!option.is_list) return words.empty() ? Json() : json_of(option.kind, words.front());
  auto list = Json::array();
  for (const auto& word : words) list.push_back(json_of(option.kind, word));
  return list;
}

Json options_json(const Options& options) {
  auto json = Json::object();
  for (const Option& option : options) {
    if (option.name != "config") json[option.name] = option_json(option);
  }
  return json;
}

Json decisive_options(const Options& options, const Json& found) {
  auto record = Json::object();
  for (const Option& option : options) {
    const bool decides = option.info.decides == Decides::kResult || option.info.decides == Decides::kContent;
    if (decides && !found.contains(option.name) && !found.contains(hash_name(option.name))) {
      add_decisive(record, option);
    }
  }
  record.update(found);
  return record;
}

Json job_options(const Options& options) {
  auto record = Json::object();
  for (const Option& option : options) {
    if (option.info.decides == Decides::kJob) record[option.name] = option_json(option);
  }
  return record;
}

std::optional<std::string> first_difference(const Json& there, const Json& here) {
  for (const auto& [name, value] : here.items()) {
    if (!there.contains(name)) return text(name, " is not recorded there and ", shown_json(value), " here");
    if (there[name] != value) {
      return text(name, " is ", shown_json(there[name]), " there and ", shown_json(value), " here");
    }
  }
  for (const auto& [name, value] : there.items()) {
    if (!here.contains(name)) return text(name, " is ", shown_json(value), " there and not known here");
  }
  return std::nullopt;
}

std::string first_difference(const std::string& there, const std::string& here) {
  const auto a = Json::parse(there, nullptr, false), b = Json::parse(here, nullptr, false);
  if (!a.is_object() || !b.is_object()) return "it was recorded by another version";
  return first_difference(a, b).value_or("it was recorded by another version");
}

void set_options(Options& options, const Json& settings) {
  for (const auto& [name, value] : settings.items()) set(options, name, value);
}

}  // namespace epd
