#include "epd/sampling/output_folder.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "epd/core/error.h"
#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"
#include "epd/files/outputs.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

/// The number in at least six digits.
std::string six_digits(std::uint64_t number) {
  const std::string digits = std::to_string(number);
  return digits.size() < 6 ? std::string(6 - digits.size(), '0') + digits : digits;
}

std::string seed_file(std::uint64_t seed, bool subdirs, std::string_view ending) {
  const std::string name = text(six_digits(seed), ending);
  return subdirs ? text(six_digits(seed - seed % 1000), '/', name) : name;
}

bool all_digits(const std::string& name) {
  return name.size() >= 6 && std::ranges::all_of(name, [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// 000042.png or 000042.npy.
bool is_image_file(const fs::path& path) {
  return all_digits(path.stem().string()) && (path.extension() == ".png" || path.extension() == ".npy");
}

bool is_score_file(const fs::path& path) { return path.filename() == "scores.json"; }

/// A sub folder of a run: of a thousand seeds, of unpacked images, of states.
bool is_run_folder(const fs::path& path) {
  const auto name = path.filename().string();
  return all_digits(name) || name == ".parts" || name == "inters";
}

bool is_packed_file(const fs::path& path) {
  const auto name = path.filename().string();
  return name == "grid.png" || name == "images.zip" || name == "images.npz" || name == "images.npy";
}

/// Calls `visit` for every file that a run makes at the top of `folder` and in its sub folders.
template <class Visit>
void for_each_file(const fs::path& folder, const Visit& visit) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_directory() && !entry->is_symlink()) {
      if (is_run_folder(entry->path())) for_each_file(entry->path(), visit);
    } else {
      visit(entry->path());
    }
  }
  EPD_REQUIRE(!error, "cannot list ", folder.string(), ": ", error.message());
}

void remove_empty_run_folders(const fs::path& folder) {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && !entry.is_symlink() && is_run_folder(entry.path())) folders.push_back(entry.path());
  }
  for (const auto& path : folders) {
    remove_empty_run_folders(path);
    std::error_code not_empty;  // something of the user's is in there: it stays
    fs::remove(path, not_empty);
  }
}

void remove_file(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  EPD_REQUIRE(!error, "cannot remove ", path.string(), ": ", error.message());
}

/// A whole file: a power cut can leave an empty one under the final name.
bool is_there(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return !error && size > 0;
}

}  // namespace

std::string OutputLayout::image_name(std::uint64_t seed) const { return seed_file(seed, subdirs, ".png"); }

std::string OutputLayout::image_file(std::uint64_t seed) const {
  if (!is_packed()) return image_name(seed);
  return ".parts/" + (format == SampleFormat::kZip ? image_name(seed) : seed_file(seed, subdirs, ".npy"));
}

std::string OutputLayout::states_file(std::uint64_t seed) const { return "inters/" + seed_file(seed, subdirs, ".npy"); }

std::vector<std::filesystem::path> OutputLayout::packed_files() const {
  std::vector<std::filesystem::path> files;
  if (grid) files.push_back(folder / "grid.png");
  switch (format) {
    case SampleFormat::kPng:
      break;
    case SampleFormat::kZip:
      files.push_back(folder / "images.zip");
      break;
    case SampleFormat::kNpz:
      files.push_back(folder / "images.npz");
      break;
    case SampleFormat::kRaw:
      files.push_back(folder / "images.npy");
      break;
  }
  return files;
}

OutputFolder::OutputFolder(OutputLayout layout, Manifest manifest, Options options) : layout_(std::move(layout)) {
  create_folder(layout_.folder, "outdir");
  lock_ = std::make_unique<FolderLock>(layout_.folder);
  if (options.overwrite && fs::exists(layout_.folder / Manifest::kFileName)) {
    remove_images();
  } else {
    require_no_stranger(manifest);
    if (!options.resume) require_nothing_finished();
  }
  remove_unfinished_files();
  write_manifest(layout_.folder, manifest);
}

std::vector<std::uint64_t> OutputFolder::missing(const std::vector<std::uint64_t>& seeds) const {
  std::vector<std::uint64_t> result;
  for (const std::uint64_t seed : seeds) {
    const bool states = !layout_.save_inters || is_there(layout_.folder / layout_.states_file(seed));
    const bool image = is_packed_already() || is_there(layout_.folder / layout_.image_file(seed));
    if (!image || !states) result.push_back(seed);
  }
  return result;
}

bool OutputFolder::is_packed_already() const {
  const auto files = layout_.packed_files();
  return !files.empty() && std::ranges::all_of(files, is_there);
}

void OutputFolder::require_no_stranger(const Manifest& manifest) const {
  const auto& folder = layout_.folder;
  if (const auto there = read_manifest(folder)) {
    const auto other = first_difference(there->settings, manifest.settings);
    EPD_REQUIRE(!other, folder.string(), " has images made with other settings: ", other.value_or(""),
                "; choose another --outdir, or replace them with --overwrite");
    return;
  }
  for_each_file(folder, [&](const fs::path& path) {
    EPD_REQUIRE(!is_image_file(path) && !is_packed_file(path), folder.string(), " holds images (",
                path.filename().string(), ") and no ", Manifest::kFileName,
                " that describes them; choose another --outdir, or remove them");
  });
  const auto data = find_data(folder, /*below=*/true);
  EPD_REQUIRE(!data, folder.string(), " holds other data (", data->string(), ") and no ", Manifest::kFileName,
              "; choose another --outdir");
}

void OutputFolder::require_nothing_finished() const {
  for_each_file(layout_.folder, [&](const fs::path& path) {
    EPD_REQUIRE(!is_image_file(path) && !is_packed_file(path), layout_.folder.string(),
                " already has images; keep them with --resume, or replace them with --overwrite");
  });
}

void OutputFolder::remove_images() const {
  // The record goes last: a run that is stopped in between leaves images that still say whose they are.
  for_each_file(layout_.folder, [](const fs::path& path) {
    if (is_image_file(path) || is_packed_file(path) || is_score_file(path)) remove_file(path);
  });
  remove_empty_run_folders(layout_.folder);
  remove_file(layout_.folder / Manifest::kFileName);
}

void OutputFolder::remove_unfinished_files() const {
  for_each_file(layout_.folder, [](const fs::path& path) {
    if (is_temporary_name(path.filename().string())) remove_file(path);
  });
}

}  // namespace epd
