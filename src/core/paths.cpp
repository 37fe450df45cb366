#include "epd/core/paths.h"

#include <cstdlib>

#include "epd/core/error.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

fs::path from_environment(const char* variable, const fs::path& otherwise) {
  const char* value = std::getenv(variable);
  return value && *value ? fs::path(value) : otherwise;
}

fs::path demo_file(const char* name) { return project_dir() / "models" / "demo" / name; }

}  // namespace

fs::path project_dir() { return from_environment("EPD_HOME", EPD_SOURCE_DIR); }

fs::path cache_dir() { return from_environment("EPD_CACHE", from_environment("HOME", ".") / ".cache" / "epd"); }

fs::path find_model(const std::string& dataset_name, const std::string& model_path) {
  if (!model_path.empty()) {
    EPD_REQUIRE(fs::exists(model_path), "model_path: no file ", model_path);
    return model_path;
  }
  EPD_REQUIRE_USAGE(!dataset_name.empty(), "dataset_name: name a model (demo, cifar10, ...) or give --model_path");
  EPD_REQUIRE_USAGE(dataset_name.find('/') == std::string::npos, "dataset_name: '", dataset_name, "' is no name");
  const fs::path path =
      dataset_name == "demo" ? demo_file("denoiser.ts") : cache_dir() / "models" / dataset_name / "denoiser.ts";
  EPD_REQUIRE(fs::exists(path), "dataset_name: no model for '", dataset_name, "' at ", path.string(),
              "; make it with ./launch.sh model ", dataset_name);
  return path;
}

fs::path find_detector(const std::string& dataset_name, const std::string& detector) {
  const std::string name = !detector.empty() ? detector : dataset_name == "demo" ? "demo" : "inception";
  if (name == "demo") return demo_file("features.ts");
  if (fs::exists(name)) return name;
  const bool is_name = name == "inception" || name == "inception-pytorch";
  EPD_REQUIRE(is_name, "detector: no file ", name, " (names are inception, inception-pytorch and demo)");
  const fs::path path = cache_dir() / "models" / name / (name + ".ts");
  EPD_REQUIRE(fs::exists(path), "detector: no ", path.string(), "; make it with ./launch.sh model ", name);
  return path;
}

fs::path find_captions(const std::string& dataset_name) {
  if (dataset_name != "ms_coco") return {};
  const fs::path path = cache_dir() / "models" / dataset_name / "MS-COCO_val2014_30k_captions.csv";
  EPD_REQUIRE(fs::exists(path), "prompt: none given, and no captions at ", path.string(),
              "; fetch them with python3 models/fetch.py ", dataset_name, " captions, or give a prompt");
  return path;
}

}  // namespace epd
