#include "settings_file.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "epd/core/error.h"

namespace epd::cli {
namespace {

using nlohmann::ordered_json;

std::string scalar_text(const ordered_json& value, const std::string& where) {
  EPD_REQUIRE_USAGE(value.is_string() || value.is_number() || value.is_boolean(), where,
                    ": expected text, a number or a boolean, got ", value.dump());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Settings read_json_settings(std::istream& stream, const std::string& path) {
  const auto json = ordered_json::parse(stream, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  EPD_REQUIRE_USAGE(json.is_object(), "--config ", path, ": not a JSON object of options and values");
  Settings settings;
  for (const auto& [name, value] : json.items()) {
    if (value.is_null()) continue;
    const std::string where = text("--config ", path, ", option '", name, "'");
    std::vector<std::string> values;
    if (value.is_array()) {
      for (const auto& item : value) values.push_back(scalar_text(item, where));
    } else {
      values.push_back(scalar_text(value, where));
    }
    settings.emplace_back(name, values);
  }
  return settings;
}

}  // namespace

Settings read_settings(const std::string& path) {
  std::ifstream stream(path);
  EPD_REQUIRE_USAGE(stream.good(), "--config ", path, ": cannot read the file");
  if (!path.ends_with(".toml")) return read_json_settings(stream, path);
  Settings settings;
  try {
    for (const auto& item : CLI::ConfigTOML().from_config(stream)) settings.emplace_back(item.name, item.inputs);
  } catch (const CLI::Error& e) {
    throw UsageError(text("--config ", path, ": ", e.what()));
  }
  return settings;
}

}  // namespace epd::cli
