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
#include "epd/sampling/common_options.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/sampler.h"

namespace epd {

/// A comparison of solvers on one model: the same seeds for all, each scored against the ODE's exact end states, which
/// a fine trajectory gives, and against the data.
struct CompareOptions {
  std::string dataset_name, model_path;
  std::vector<std::string> predictors;  // as predictor_contender reads them
  std::vector<std::string> plans;       // plan files; "path=name" gives a name in the table
  bool zoo = false;                     // all shipped predictors that fit the model
  std::vector<std::string> solvers;     // as read_contender reads them
  std::vector<ScheduleKind> schedules;  // for solvers that name none, a row each; empty: the usual ones of the model
  std::vector<std::string> sigmas;      // lists of times, likewise: files, or names in exp/zoo/sigmas
  SigmaRange range;                     // of the solvers' schedules; the model's
  bool force_predictor = false;         // predictors of other models of the same shape too
  std::vector<int> nfe{5};              // of the solvers
  std::vector<std::string> extra;       // "solver:order@schedule#nfe": further rows
  std::string exact = "dpmpp:3@logsnr#40";  // the fine trajectory
  SeedList seeds;                           // one image each
  OnBad on_bad = OnBad::kStop;
  std::int64_t batch = 64;  // images at a time, over all processes
  std::int64_t chunk = 0;   // images in one forward; 0: 16 on the CPU, 64 on a GPU
  std::string data;         // images or statistics of the data; empty: no fd_data
  std::string detector;     // of the features
  ConditionOptions condition;
  GuidanceKind guidance_type = GuidanceKind::kNone;
  double guidance_rate = 1;
  Precision precision = Precision::kAuto;
  Engine engine = Engine::kAuto;
  bool offload = false;     // on a GPU: one of the model's networks there at a time
  int picture_images = 12;  // images of each row in compare.png
  int picture_rows = 8;     // rows in compare.png; 0: all
  std::filesystem::path outdir = "samples/compare";
  bool overwrite = false;  // replace the results of other options in outdir

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
  std::int64_t missing = 0;      // images that are not finite and left out
};

struct Comparison {
  std::vector<CompareRow> rows;            // the contenders, then the reference
  std::vector<std::vector<Image>> images;  // per row, of the first seeds; on the root
};

/// Draws and scores every row; called by all processes, each of which draws its share of the seeds.
Comparison compare(const CompareOptions& options, ProcessGroup& group, at::Device device);

/// The comparison as a Markdown table, aligned so that it reads well in a terminal too.
std::string comparison_table(const std::vector<CompareRow>& rows);

/// {"rows": [{solver, schedule, nfe, evaluations, rmse, fd_exact, fd_data, images_per_second}]}.
std::string comparison_json(const std::vector<CompareRow>& rows);

/// A row of images per row of the table, the same seeds above each other, each row with its name: the reference, then
/// the others by rising RMSE, at most `max_rows` in all (0: all). Where there are more, the learned ones stay and the
/// classical ones are spread evenly from the best to the worst. Images below 64 pixels are enlarged to at least that,
/// a whole number of times.
Image comparison_image(const Comparison& comparison, int max_rows);

/// The comparison as a figure (SVG, light or dark as the reader's page): RMSE and Frechet distance to the reference,
/// against NFE and against total evaluations, a line for each family: the rows of a classical solver on one schedule,
/// or predictors of one name. Both scales of quality are logarithmic; rows without an error, such as the reference,
/// are left out.
std::string comparison_chart(const std::vector<CompareRow>& rows);

}  // namespace epd
