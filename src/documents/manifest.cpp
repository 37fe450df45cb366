#include "epd/documents/manifest.h"

#include <nlohmann/json.hpp>

#include "epd/core/error.h"
#include "epd/files/atomic_file.h"

namespace epd {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFormat = "epd-samples";
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 31;  // a list of a hundred million scattered seeds

ordered_json parsed(const std::string& json) { return ordered_json::parse(json, nullptr, /*allow_exceptions=*/false); }

ordered_json object_of(const Manifest::Fields& fields) {
  auto object = ordered_json::object();
  for (const auto& [name, value] : fields) object[name] = parsed(value);
  return object;
}

Manifest::Fields fields_of(const ordered_json& object) {
  Manifest::Fields fields;
  for (const auto& [name, value] : object.items()) fields.emplace_back(name, value.dump());
  return fields;
}

/// A value as it stands in a sentence, cut where it is long.
std::string shown(const ordered_json& value) {
  constexpr std::size_t kLongest = 60;
  const std::string json = value.dump();
  return json.size() <= kLongest ? json : json.substr(0, kLongest) + "...";
}

}  // namespace

std::optional<std::string> Manifest::noted(std::string_view name) const {
  for (const auto& [candidate, value] : run) {
    if (candidate == name) return value;
  }
  return std::nullopt;
}

std::optional<std::string> difference(const Manifest& there, const Manifest& here) {
  const auto a = object_of(there.settings), b = object_of(here.settings);
  for (const auto& [name, value] : b.items()) {
    if (!a.contains(name)) return text(name, " is not recorded there and ", shown(value), " here");
    if (a[name] != value) return text(name, " is ", shown(a[name]), " there and ", shown(value), " here");
  }
  for (const auto& [name, value] : a.items()) {
    if (!b.contains(name)) return text(name, " is ", shown(value), " there and not known here");
  }
  return std::nullopt;
}

std::string manifest_text(const Manifest& manifest) {
  auto json = ordered_json::object();
  json["format"] = kFormat;
  json["version"] = Manifest::kVersion;
  json["settings"] = object_of(manifest.settings);
  json["run"] = object_of(manifest.run);
  return json.dump(1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) + "\n";
}

std::optional<Manifest> read_manifest(const std::filesystem::path& folder) {
  const auto path = folder / Manifest::kFileName;
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto json = parsed(read_file(path, kMaxBytes));
  const auto is_object = [&](const char* field) { return json.contains(field) && json[field].is_object(); };
  EPD_REQUIRE(json.is_object() && json.value("format", ordered_json()) == kFormat, path.string(),
              ": not the record of a sampling run, or damaged");
  EPD_REQUIRE(json.value("version", ordered_json()) == Manifest::kVersion, path.string(),
              ": this program reads version ", Manifest::kVersion, ", found ",
              shown(json.value("version", ordered_json())));
  EPD_REQUIRE(is_object("settings") && is_object("run"), path.string(), ": settings or run is missing");
  Manifest manifest;
  manifest.settings = fields_of(json["settings"]);
  manifest.run = fields_of(json["run"]);
  return manifest;
}

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  write_file(folder / Manifest::kFileName, manifest_text(manifest), Durability::kSync);
}

}  // namespace epd
