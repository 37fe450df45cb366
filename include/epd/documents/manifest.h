#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace epd {

/// What stands beside the images of a sampling run, as manifest.json: how they were made.
///   format "epd-samples", version 1
///   settings   what decides the images: the same in every run that may add to the folder
///   run        how the last run went about it (seeds, batch, processes, ...): may differ
struct Manifest {
  static constexpr int kVersion = 1;
  static constexpr const char* kFileName = "manifest.json";
  /// Names and values; a value is JSON (io/json_writer.h makes it).
  using Fields = std::vector<std::pair<std::string, std::string>>;

  Fields settings;
  Fields run;

  Manifest& set(std::string_view name, std::string json) { return add(settings, name, std::move(json)); }
  Manifest& note(std::string_view name, std::string json) { return add(run, name, std::move(json)); }

  /// The value of a note, as JSON; nothing where there is none.
  std::optional<std::string> noted(std::string_view name) const;

 private:
  Manifest& add(Fields& fields, std::string_view name, std::string json) {
    fields.emplace_back(name, std::move(json));
    return *this;
  }
};

/// The first setting in which two manifests differ, for people: "guidance_rate is 2 there and 1.5 here"; nothing where
/// all are equal. Numbers are compared as numbers; the order of the fields does not count.
std::optional<std::string> difference(const Manifest& there, const Manifest& here);

/// The text of a manifest: the same bytes for the same fields.
std::string manifest_text(const Manifest& manifest);

/// Reads manifest.json in `folder`; nothing where there is none. Throws Error, naming the file, when it is damaged.
std::optional<Manifest> read_manifest(const std::filesystem::path& folder);

/// Writes it, whole and synced to the disk.
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

}  // namespace epd
