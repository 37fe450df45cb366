#include "epd/evaluation/run_fid.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"
#include "epd/distributed/process_group.h"
#include "epd/files/atomic_file.h"
#include "epd/files/npz.h"
#include "epd/metrics/random_state.h"

namespace epd {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::shared_ptr<const Detector> open_detector(const PictureOptions& options, at::Device device) {
  return open_scoring_detector("", options.detector, device, options.chunk);
}

/// The features of the chosen images of a source.
ImageSet read_pictures(const PictureOptions& options, const std::shared_ptr<const Detector>& detector,
                       ProcessGroup& group) {
  const std::shared_ptr<const ImageSource> source = open_image_source(options.path, options.alpha);
  const auto wanted = options.num.value_or(source->size());
  EPD_REQUIRE(wanted <= source->size(), options.path.string(), ": found ", source->size(), " images, --num asks for ",
              wanted);
  auto indices = random_subset(source->size(), wanted, options.seed);
  auto set = score_images(*source, indices, detector, options.pass, group, options.path.string());
  if (group.is_root() && set.statistics.count < set.statistics.num_features()) {
    log::warning(options.path.string(), ": ", set.statistics.count, " images are fewer than the ",
                 set.statistics.num_features(), " features; the FID is strongly biased");
  }
  return {std::move(set), source, std::move(indices)};
}

ImageSet read_reference(const CalcOptions& options, const std::shared_ptr<const Detector>& detector,
                        ProcessGroup& group) {
  if (is_statistics_file(options.reference)) {
    return {read_feature_set(options.reference, options.metrics.need_features()), nullptr, {}};
  }
  auto pictures = options.pictures;
  pictures.path = options.reference;
  pictures.num.reset();
  pictures.pass.keep_features = options.metrics.need_features() || !options.report.empty();
  return read_pictures(pictures, detector, group);
}

Json describe(const Statistics& statistics) {
  return {{"path", statistics.source}, {"num", statistics.count > 0 ? Json(statistics.count) : Json()}};
}

Json make_record(const Scores& scores, const Statistics& generated, const Statistics& reference,
                 const CalcOptions& options, const Detector& detector) {
  auto record = scores.json();
  auto images = describe(generated);
  if (options.pictures.num) images["seed"] = options.pictures.seed;
  record.update({{"images", images},
                 {"reference", describe(reference)},
                 {"detector", detector.name()},
                 {"detector_sha256", detector.sha256()},
                 {"num_features", detector.num_features()},
                 {"chunk", detector.chunk()},
                 {"device", detector.device().str()},
                 {"alpha", name_of(kAlphaNames, options.pictures.alpha)},
                 {"version", text("epd ", version())}});
  return record;
}

}  // namespace

const PictureOptions& PictureOptions::validated() const {
  PictureOptions copy = *this;
  options_of(copy).check();
  return *this;
}

CalcResult run_calc(const CalcOptions& given, ProcessGroup& group, at::Device device) {
  const Stopwatch total;
  CalcOptions options = given;
  options.reference = find_reference(given.reference);
  options.pictures.validated();
  if (group.is_root() && !options.report.empty()) prepare_output(options.report);
  const bool early = is_statistics_file(options.reference);  // a bad reference is refused before the long work
  ImageSet reference;
  if (early) reference = read_reference(options, nullptr, group);
  const auto detector = open_detector(options.pictures, device);
  if (!early) reference = read_reference(options, detector, group);
  auto pictures = options.pictures;
  pictures.pass.keep_features = options.metrics.need_features() || !options.report.empty();
  require_same_detector(*detector, reference.data.statistics);
  const auto generated = read_pictures(pictures, detector, group);
  const double seconds_features = total.seconds();
  CalcResult result;
  if (!group.is_root()) return result;
  const Stopwatch scoring;
  result.scores = score(generated.data, reference.data, options.metrics, device);
  result.record = make_record(result.scores, generated.data.statistics, reference.data.statistics, options, *detector);
  result.record.update({{"processes", group.size()},
                        {"threads", at::get_num_threads()},
                        {"seconds_features", seconds_features},
                        {"seconds_scores", scoring.seconds()}});
  if (!options.report.empty()) {
    write_file(options.report, report_page(result.scores, generated, reference, result.record));
  }
  return result;
}

void prepare_output(const std::filesystem::path& path) {
  if (path.has_parent_path()) {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    EPD_REQUIRE(!error, path.parent_path().string(), ": cannot create the folder: ", error.message());
  }
  const AtomicFile probe(path);
}

void run_ref(const RefOptions& options, ProcessGroup& group, at::Device device) {
  auto pictures = options.pictures.validated();
  pictures.pass.keep_features = options.save_features;
  if (group.is_root()) prepare_output(options.dest);
  const auto set = read_pictures(pictures, open_detector(pictures, device), group);
  if (group.is_root()) write_feature_set(options.dest, set.data);
}

}  // namespace epd
