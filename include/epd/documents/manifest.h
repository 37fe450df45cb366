#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "epd/files/json.h"

namespace epd {

/// What is kept beside the images of a sampling run, as manifest.json: how they were made.
///   format "epd-samples", version 1
///   settings   what decides the images: the same in every run that may add to the folder
///   run        how the last run went about it (seeds, batch, processes, ...): may differ
struct Manifest {
  static constexpr int kVersion = 1;
  static constexpr const char* kFileName = "manifest.json";

  Json settings = Json::object();
  Json run = Json::object();
};

/// The text of a manifest: the same bytes for the same fields.
std::string manifest_text(const Manifest& manifest);

/// Reads manifest.json in `folder`; nothing where there is none. Throws Error, naming the file, when it is damaged.
std::optional<Manifest> read_manifest(const std::filesystem::path& folder);

/// Writes it, whole and synced to the disk.
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

}  // namespace epd
