#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "epd/core/options.h"
#include "epd/denoiser/torchscript.h"
#include "epd/distributed/process_group.h"
#include "epd/evaluation/contender.h"
#include "epd/images/image.h"
#include "epd/sampling/conditions.h"

namespace epd {

/// A comparison of solvers on one model: the same seeds for all, each scored against the ODE's exact end states, which
/// a fine trajectory gives, and against the data.
struct CompareOptions {
  std::string dataset_name, model_path;
  std::vector<std::string> predictors;      // as predictor_contender reads them
  std::vector<std::string> solvers;         // as read_contender reads them
  std::vector<ScheduleKind> schedules;      // for solvers that name none: a row each
  std::vector<int> nfe{5};                  // of the solvers
  std::vector<std::string> extra;           // "solver:order@schedule#nfe": further rows
  std::string exact = "dpmpp:3@logsnr#40";  // the fine trajectory
  std::vector<std::uint64_t> seeds;         // one image each
  std::int64_t batch = 64;                  // images at a time, over all processes
  std::int64_t chunk = 0;                   // images in one forward; 0: 16 on the CPU, 64 on a GPU
  std::string data;                         // images or statistics of the data; empty: no fd_data
  std::string detector;                     // of the features
  ConditionOptions condition;
  GuidanceKind guidance_type = GuidanceKind::kNone;
  double guidance_rate = 1;
  Precision precision = Precision::kAuto;
  int picture_images = 12;  // images of each row in compare.png
  int picture_rows = 8;     // rows in compare.png; 0: all
  std::filesystem::path outdir = "samples/compare";

  /// *this, or throws UsageError naming the option, its value and its bound.
  const CompareOptions& validated() const;
};

Options options_of(CompareOptions& options);

/// A row of the comparison.
struct CompareRow {
  std::string solver, schedule;
  int nfe = 0, evaluations = 0;  // serial; total, parallel points counted singly
  double rmse = 0;               // to the exact end states, over all values of all images in [-1, 1]
  double fd_exact = 0;           // Frechet distance to the exact images
  double fd_data = 0;            // to the data; NaN without data
  double images_per_second = 0;  // drawing alone, of all processes together
  bool learned = false;          // a predictor
};

struct Comparison {
  std::vector<CompareRow> rows;            // the contenders, then the reference
  std::vector<std::vector<Image>> images;  // per row, of the first seeds; on the root
};

/// Draws and scores every row; called by all processes, each of which draws its share of the seeds.
Comparison compare(const CompareOptions& options, ProcessGroup& group, at::Device device);

}  // namespace epd
