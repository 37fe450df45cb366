#pragma once

#include <string>

namespace epd {

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
