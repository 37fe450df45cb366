#include "epd/assets/paths.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>
#include <thread>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/files/atomic_file.h"
#include "epd/files/file_lock.h"
#include "epd/files/json.h"

extern char** environ;  // NOLINT: POSIX names it so
namespace epd {
namespace {

namespace fs = std::filesystem;

fs::path from_environment(const char* variable, const fs::path& otherwise) {
  const char* value = std::getenv(variable);
  return value && *value ? fs::path(value) : otherwise;
}

/// The file whose lock the one process holds that fills the cache.
FileLock open_cache_lock() {
  const auto path = cache_dir() / ".lock";
  std::error_code ignored;  // the next line fails then
  fs::create_directories(cache_dir(), ignored);
  FileLock lock(path);
  EPD_REQUIRE(lock.is_open(), "cannot write to ", path.string(), ": ", std::strerror(errno),
              "; name another folder with EPD_CACHE");
  return lock;
}

void wait_until(const std::function<bool()>& done) {
  while (!done()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    check_interrupt();
  }
}

/// Starts the command in a process group of its own, without input, its output on stderr.
pid_t start(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));  // posix_spawn does not write
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t id = -1;
  const int failure = posix_spawn(&id, words[0], &files, &attributes, words.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  EPD_REQUIRE(failure == 0, "EPD_LAUNCHER: cannot run ", command[0], ": ", std::strerror(failure));
  return id;
}

/// Runs `launch.sh ARGUMENTS` (EPD_LAUNCHER names the script), which should make `file`; its output goes to stderr.
/// Does nothing where the file exists, or where the program was not started by the script. Processes that miss
/// something in the same cache wait for each other. Throws as check_interrupt() does, having ended what it ran.
void make_if_missing(const fs::path& file, const std::vector<std::string>& arguments) {
  const char* launcher = std::getenv("EPD_LAUNCHER");
  if (fs::exists(file) || !launcher || !*launcher) return;
  const FileLock lock = open_cache_lock();
  wait_until([&] { return lock.acquire(); });
  if (fs::exists(file)) return;
  std::vector<std::string> command{launcher};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const pid_t id = start(command);
  try {
    wait_until([&] { return ::waitpid(id, nullptr, WNOHANG) != 0; });
  } catch (...) {
    ::kill(-id, SIGTERM);
    ::waitpid(id, nullptr, 0);
    throw;
  }
}

/// A file of the cache, made by `launch.sh ARGUMENTS` where it is missing. `complaint` begins the error if it stays so.
fs::path cached(const fs::path& path, const std::string& complaint, const std::vector<std::string>& arguments) {
  make_if_missing(path, arguments);
  std::string command = "./launch.sh";
  for (const auto& argument : arguments) command += " " + argument;
  EPD_REQUIRE(fs::exists(path), complaint, " at ", path.string(), "; make it with ", command);
  return path;
}

/// The user's own names, where there are any, and those of the product. An own entry goes before one of the product's.
std::vector<JsonReader> read_registries() {
  std::vector<JsonReader> registries;
  const auto own = cache_dir() / "registry.json", shipped = project_dir() / "models" / "registry.json";
  if (fs::exists(own)) registries.push_back(JsonReader::parse(read_file(own), own.string()));
  registries.push_back(JsonReader::parse(read_file(shipped), shipped.string()));
  return registries;
}

/// Of both registries, and of the models that stand in the cache without an entry.
std::set<std::string> all_dataset_names() {
  std::set<std::string> names;
  for (const auto& registry : read_registries()) {
    for (const auto& name : registry.fields()) names.insert(name);
  }
  std::error_code none;  // where nothing has been exported yet
  for (const auto& folder : fs::directory_iterator(cache_dir() / "models", none)) {
    if (fs::exists(folder.path() / "denoiser.ts")) names.insert(folder.path().filename().string());
  }
  return names;
}

/// " (known names: a, b)" behind a name that is not one of them.
std::string known_names(const std::string& name) {
  const auto names = all_dataset_names();
  if (names.contains(name)) return {};
  std::string list;
  for (const auto& known : names) list += (list.empty() ? "" : ", ") + known;
  return text(" (known names: ", list, ")");
}

}  // namespace

fs::path project_dir() { return from_environment("EPD_HOME", EPD_SOURCE_DIR); }

fs::path cache_dir() {
  const auto home = from_environment("HOME", ""), named = from_environment("EPD_CACHE", "");
  EPD_REQUIRE(!named.empty() || !home.empty(), "the cache has no place without HOME; name its folder with EPD_CACHE");
  return named.empty() ? home / ".cache" / "epd" : named;
}

fs::path model_location(const std::string& dataset_name, const std::string& model_path) {
  if (!model_path.empty()) return model_path;
  EPD_REQUIRE_USAGE(!dataset_name.empty(), "give --dataset_name (demo, cifar10, ...) or --model_path");
  EPD_REQUIRE_USAGE(dataset_name.find('/') == std::string::npos, "dataset_name: '", dataset_name,
                    "' is not a valid name");
  const auto shipped = find_dataset(dataset_name).model;
  return shipped.empty() ? cache_dir() / "models" / dataset_name / "denoiser.ts" : project_dir() / shipped;
}

fs::path find_model(const std::string& dataset_name, const std::string& model_path) {
  const fs::path path = model_location(dataset_name, model_path);
  EPD_REQUIRE(model_path.empty() || fs::exists(path), "model_path: no such file: ", model_path);
  const auto ending = fs::path(model_path).extension();
  EPD_REQUIRE(ending != ".pkl" && ending != ".ckpt" && ending != ".safetensors", "model_path: ", model_path,
              " is a checkpoint; ./launch.sh model NAME --source ", model_path, " makes a model file of it");
  const auto known = model_path.empty() && !fs::exists(path) ? known_names(dataset_name) : "";
  EPD_REQUIRE(known.empty(), "dataset_name: no model for '", dataset_name, "'", known, " at ", path.string(),
              "; make one of your own with ./launch.sh model ", dataset_name, " --source FILE|FOLDER");
  return model_path.empty()
             ? cached(path, text("dataset_name: no model for '", dataset_name, "'"), {"model", dataset_name})
             : path;
}

fs::path find_detector(const std::string& dataset_name, const std::string& detector) {
  if (fs::exists(detector) && detector.find_first_of("/.") != detector.npos) return detector;
  const auto shipped = find_dataset(detector.empty() ? dataset_name : detector).detector;
  if (!shipped.empty()) return project_dir() / shipped;
  const std::string name = detector.empty() ? "inception" : detector;
  if (fs::exists(name)) return name;
  EPD_REQUIRE(name.find_first_of("/.") == name.npos, "detector: no such file: ", name);
  const fs::path path = cache_dir() / "models" / name / (name + ".ts");
  const bool published = name == "inception" || name == "inception-pytorch";
  if (published) return cached(path, text("detector: cannot find ", name), {"model", name});
  EPD_REQUIRE(fs::exists(path), "detector: cannot find ", path.string(),
              " (built-in names: inception, inception-pytorch, demo)");
  return path;
}

fs::path find_captions(const std::string& dataset_name) {
  const auto file_name = find_dataset(dataset_name).captions;
  if (file_name.empty()) return {};
  return cached(cache_dir() / "models" / dataset_name / file_name, "prompt: none given, and no captions",
                {"fetch", dataset_name, "captions"});
}

fs::path find_statistics(const std::string& dataset_name) {
  const auto file_name = find_dataset(dataset_name).statistics;
  EPD_REQUIRE(!file_name.empty(), "ref: no file ", dataset_name,
              " exists, and no dataset of that name has published statistics", known_names(dataset_name));
  return cached(cache_dir() / "statistics" / file_name, text("ref: no statistics of ", dataset_name),
                {"fetch", dataset_name, "statistics"});
}

fs::path find_reference(const fs::path& path_or_name) {
  const std::string name = path_or_name.string();
  return name.find_first_of("/.") == name.npos && !fs::exists(name) ? find_statistics(name) : path_or_name;
}

namespace {

std::string name_in(JsonReader& entry, const std::string& field) {
  return entry.is_null(field) ? "" : entry.object(field).string("name");
}

}  // namespace

DatasetEntry find_dataset(const std::string& name) {
  auto registries = read_registries();
  const auto found = std::ranges::find_if(registries, [&](JsonReader& registry) { return registry.has(name); });
  if (found == registries.end()) return {};
  auto entry = found->object(name);
  DatasetEntry result;
  if (entry.has("model")) result.model = entry.string("model");
  if (entry.has("detector")) result.detector = entry.string("detector");
  if (entry.has("end_to_end")) result.end_to_end = entry.boolean("end_to_end");
  result.statistics = name_in(entry, "statistics");
  result.captions = name_in(entry, "captions");
  for (const char* of_the_exporter : {"family", "summary", "files"}) entry.is_null(of_the_exporter);
  entry.finish();
  return result;
}

}  // namespace epd
