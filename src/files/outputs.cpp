#include "epd/files/outputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

namespace epd {
namespace {

namespace fs = std::filesystem;

/// Where a path leads: links followed, also a last one whose target is not there yet.
fs::path destination(fs::path path) {
  std::error_code error;
  for (int links = 0; links < 40 && fs::is_symlink(path, error) && !fs::exists(path, error); ++links) {
    path = path.parent_path() / fs::read_symlink(path, error);
  }
  auto result = fs::weakly_canonical(fs::absolute(path, error), error);
  if (!result.has_filename()) result = result.parent_path();  // "folder/"
  return error ? path : result;
}

/// A path that an option names.
struct Place {
  const Option* option;
  std::string given;
  fs::path path;
  struct stat status {};
  bool exists, is_folder;

  Place(const Option& of, const std::string& word)
      : option(&of), given(word), path(destination(word)), exists(::stat(path.c_str(), &status) == 0) {
    is_folder = exists && S_ISDIR(status.st_mode);
  }
  bool same_as(const Place& other) const {
    if (exists != other.exists) return false;
    if (!exists) return path == other.path;
    return status.st_dev == other.status.st_dev && status.st_ino == other.status.st_ino;
  }
  bool is_inside(const Place& folder) const {
    const auto [end, rest] = std::ranges::mismatch(folder.path, path);
    return folder.is_folder && end == folder.path.end() && rest != path.end();
  }
};

std::vector<Place> places(const Options& options, NamesPath kind) {
  std::vector<Place> result;
  for (const Option& option : options) {
    if (option.info.path != kind) continue;
    for (const auto& word : option.get()) {
      if (!word.empty()) result.emplace_back(option, word);
      // "path=name", as predictors are named.
      if (const auto name = word.rfind('='); option.is_list && name != word.npos && name > 0) {
        result.emplace_back(option, word.substr(0, name));
      }
    }
  }
  return result;
}

std::string ending(const fs::path& path) {
  std::string result = path.extension().string();
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

bool is_any_of(const std::string& word, std::initializer_list<std::string_view> words) {
  return std::ranges::find(words, word) != words.end();
}

/// Labels of a dataset, records of runs, predictors.
bool is_record(const fs::path& path) {
  return is_any_of(path.filename().string(),
                   {"dataset.json", "manifest.json", "predictor.json", "training_options.json"});
}

/// A score, report or archive that a run may write again beside the images that it reads; whatever else is in their
/// folder may be one of them.
bool may_be_written_again(const fs::path& path) {
  return is_any_of(ending(path), {".json", ".html", ".htm", ".npz", ".zip"}) && !is_record(path);
}

/// A file that runs write into their folders.
bool may_be_replaced(const fs::path& path) {
  return is_record(path) || is_any_of(ending(path), {".png", ".npy", ".npz", ".zip", ".svg"});
}

bool is_data(const fs::path& path) {
  return is_any_of(ending(path), {".ts", ".png", ".jpg", ".jpeg"}) ||
         (is_record(path) && path.filename() != "manifest.json");
}

void require_separate(const Place& output, const Place& other) {
  const auto named = [](const Place& place) { return text("--", place.option->name, ' ', place.given); };
  EPD_REQUIRE_USAGE(!output.same_as(other), named(output), " would overwrite ", named(other),
                    ", the same file or folder; choose another name");
  if (other.option->info.path != NamesPath::kInput || !other.exists) return;
  EPD_REQUIRE_USAGE(!output.is_inside(other) || !output.exists || output.is_folder || may_be_written_again(output.path),
                    named(output), " would overwrite a file in the folder of ", named(other), "; choose another name");
  EPD_REQUIRE_USAGE(!output.is_folder || other.is_folder || !other.is_inside(output) || !may_be_replaced(other.path),
                    named(output), " is the folder of ", named(other),
                    ", which could be overwritten; choose another folder");
}

}  // namespace

void require_separate(const Options& options) {
  const auto outputs = places(options, NamesPath::kOutput), inputs = places(options, NamesPath::kInput);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    for (const Place& input : inputs) {
      if (input.exists) require_separate(outputs[i], input);
    }
    for (std::size_t j = 0; j < i; ++j) require_separate(outputs[i], outputs[j]);
  }
}

void create_folder(const fs::path& folder, std::string_view option) {
  std::error_code error;
  const auto start = text(option, ": cannot create the folder ", folder.string(), ": ");
  const auto status = fs::status(folder, error);
  EPD_REQUIRE(!fs::exists(status) || fs::is_directory(status), option, ": ", folder.string(),
              " is a file, not a folder");
  EPD_REQUIRE(fs::exists(status) || !fs::is_symlink(folder, error), start, "it is a link to ",
              fs::read_symlink(folder, error).string(), ", which does not exist");
  error.clear();
  fs::create_directories(folder, error);
  EPD_REQUIRE(!error, start, error.message());
}

std::optional<fs::path> find_data(const fs::path& folder, bool below) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto& path = entry->path();
    if (!entry->is_directory(error)) {
      if (is_data(path)) return path;
    } else if (below && !fs::exists(path / "manifest.json", error) && !path.filename().string().starts_with('.')) {
      if (auto found = find_data(path, false)) return found;
    }
    error.clear();
  }
  EPD_REQUIRE(!error || error == std::errc::no_such_file_or_directory, "cannot list ", folder.string(), ": ",
              error.message());
  return std::nullopt;
}

}  // namespace epd
