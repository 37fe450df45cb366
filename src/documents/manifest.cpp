#include "epd/documents/manifest.h"

#include "epd/core/error.h"
#include "epd/files/atomic_file.h"

namespace epd {
namespace {

constexpr const char* kFormat = "epd-samples";
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 31;  // a list of a hundred million scattered seeds

std::string dumped(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  const Json json{
      {"format", kFormat}, {"version", Manifest::kVersion}, {"settings", manifest.settings}, {"run", manifest.run}};
  return dumped(json, 1) + "\n";
}

std::optional<Manifest> read_manifest(const std::filesystem::path& folder) {
  const auto path = folder / Manifest::kFileName;
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto json = Json::parse(read_file(path, kMaxBytes), nullptr, /*allow_exceptions=*/false);
  const auto is_object = [&](const char* field) { return json.contains(field) && json[field].is_object(); };
  EPD_REQUIRE(json.is_object() && json.value("format", Json()) == kFormat, path.string(),
              ": not a manifest of a sampling run, or damaged");
  EPD_REQUIRE(json.value("version", Json()) == Manifest::kVersion, path.string(), ": this program reads version ",
              Manifest::kVersion, ", found ", shown(dumped(json.value("version", Json()), -1)));
  EPD_REQUIRE(is_object("settings") && is_object("run"), path.string(), ": settings or run is missing");
  return Manifest{json["settings"], json["run"]};
}

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  write_file(folder / Manifest::kFileName, manifest_text(manifest), Durability::kSync);
}

}  // namespace epd
