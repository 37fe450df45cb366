#include "epd/assets/paths.h"

#include <cstdlib>
#include <vector>

#include "epd/assets/launcher.h"
#include "epd/core/error.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

fs::path from_environment(const char* variable, const fs::path& otherwise) {
  const char* value = std::getenv(variable);
  return value && *value ? fs::path(value) : otherwise;
}

fs::path demo_file(const char* name) { return project_dir() / "models" / "demo" / name; }

/// A file of the cache, made by `launch.sh ARGUMENTS` where it is missing. `complaint` begins the error if it stays so.
fs::path cached(const fs::path& path, const std::string& complaint, const std::vector<std::string>& arguments) {
  make_if_missing(path, arguments);
  std::string command = "./launch.sh";
  for (const auto& argument : arguments) command += " " + argument;
  EPD_REQUIRE(fs::exists(path), complaint, " at ", path.string(), "; make it with ", command);
  return path;
}

}  // namespace

fs::path project_dir() { return from_environment("EPD_HOME", EPD_SOURCE_DIR); }

fs::path cache_dir() { return from_environment("EPD_CACHE", from_environment("HOME", ".") / ".cache" / "epd"); }

fs::path model_location(const std::string& dataset_name, const std::string& model_path) {
  if (!model_path.empty()) return model_path;
  EPD_REQUIRE_USAGE(!dataset_name.empty(), "dataset_name: name a model (demo, cifar10, ...) or give --model_path");
  EPD_REQUIRE_USAGE(dataset_name.find('/') == std::string::npos, "dataset_name: '", dataset_name, "' is no name");
  return dataset_name == "demo" ? demo_file("denoiser.ts") : cache_dir() / "models" / dataset_name / "denoiser.ts";
}

fs::path find_model(const std::string& dataset_name, const std::string& model_path) {
  const fs::path path = model_location(dataset_name, model_path);
  EPD_REQUIRE(model_path.empty() || fs::exists(path), "model_path: no file ", model_path);
  return model_path.empty()
             ? cached(path, text("dataset_name: no model for '", dataset_name, "'"), {"model", dataset_name})
             : path;
}

fs::path find_detector(const std::string& dataset_name, const std::string& detector) {
  const std::string name = !detector.empty() ? detector : dataset_name == "demo" ? "demo" : "inception";
  if (name == "demo") return demo_file("features.ts");
  if (fs::exists(name)) return name;
  EPD_REQUIRE(name.find_first_of("/.") == name.npos, "detector: no file ", name);
  const fs::path path = cache_dir() / "models" / name / (name + ".ts");
  const bool published = name == "inception" || name == "inception-pytorch";
  if (published) return cached(path, text("detector: no ", name), {"model", name});
  EPD_REQUIRE(fs::exists(path), "detector: no ", path.string(),
              " (names without a file are inception, inception-pytorch and demo)");
  return path;
}

fs::path find_captions(const std::string& dataset_name) {
  if (dataset_name != "ms_coco") return {};
  return cached(cache_dir() / "models" / dataset_name / "MS-COCO_val2014_30k_captions.csv",
                "prompt: none given, and no captions", {"fetch", dataset_name, "captions"});
}

fs::path find_statistics(const std::string& dataset_name, const std::string& file_name) {
  return cached(cache_dir() / "statistics" / file_name, text("ref: no statistics of ", dataset_name),
                {"fetch", dataset_name, "statistics"});
}

}  // namespace epd
