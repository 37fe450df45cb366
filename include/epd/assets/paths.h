#pragma once

#include <filesystem>
#include <string>

/// Where the product's own files and the user's cache are.
namespace epd {

/// The folder with models/, exp/ and tests/: EPD_HOME, or the source tree that the programs were built from.
std::filesystem::path project_dir();

/// Where fetched and exported models live: EPD_CACHE, or ~/.cache/epd.
std::filesystem::path cache_dir();

/// Where the model file of a dataset name is, or would be: model_path if given, the demo's own, or the cache's. Throws
/// UsageError where neither a name nor a path is given.
std::filesystem::path model_location(const std::string& dataset_name, const std::string& model_path);

/// The same, which exists then. What follows is likewise made where it is missing and launch.sh started the program
/// (EPD_LAUNCHER names it), and otherwise an Error with the command that makes it.
std::filesystem::path find_model(const std::string& dataset_name, const std::string& model_path);

/// The detector of a dataset's features, for Frechet distances and the feature loss: detector if given (a file, or a
/// name: inception, inception-pytorch, demo, or NAME for the cache's models/NAME/NAME.ts), else the demo's for the demo
/// and Inception.
std::filesystem::path find_detector(const std::string& dataset_name, const std::string& detector);

/// The captions that a dataset's model draws from where no prompt is given, beside its model in the cache. Empty for a
/// dataset without.
std::filesystem::path find_captions(const std::string& dataset_name);

/// The published reference statistics of a dataset, in the cache. Throws Error for a dataset without.
std::filesystem::path find_statistics(const std::string& dataset_name);

/// The file that a reference names: itself, or by a dataset's name its published statistics.
std::filesystem::path find_reference(const std::filesystem::path& path_or_name);

/// What models/registry.json, the one list of dataset names, says of one. A path is relative to project_dir(); ""
/// stands for what a dataset does not have.
struct DatasetEntry {
  std::string model;        // path of the model, where it ships with the product
  std::string detector;     // path of the network whose features its images are compared by; "": Inception
  bool end_to_end = false;  // EPD students of few steps are trained to match the teacher at the end alone
  std::string statistics;   // file name of the published reference statistics
  std::string captions;     // file name of the captions that its model draws from
};

/// The entry of a dataset name; of a name that is not listed, an empty one.
DatasetEntry find_dataset(const std::string& name);

}  // namespace epd
