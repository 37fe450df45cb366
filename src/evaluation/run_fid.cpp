#include "epd/evaluation/run_fid.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/device.h"
#include "epd/distributed/process_group.h"
#include "epd/files/atomic_file.h"
#include "epd/files/npz.h"
#include "epd/files/outputs.h"
#include "epd/metrics/random_state.h"

namespace epd {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The detector that is asked for; else the one that the reference names, else Inception.
std::shared_ptr<const Detector> open_detector(const PictureOptions& options, at::Device device,
                                              const Statistics& reference = {}) {
  const auto& named = reference.detector;
  if (!options.detector.empty() || named.empty()) {
    return open_scoring_detector("", options.detector, device, options.chunk);
  }
  try {
    EPD_REQUIRE(named.find_first_of("/.") == named.npos, "it is not a plain name");
    return open_scoring_detector("", named, device, options.chunk);
  } catch (const Error& e) {
    throw Error(text(reference.source, " is of the detector ", shown(named),
                     ", which cannot be opened; name its file with --detector (", e.what(), ")"));
  }
}

/// The chosen images of a source, not read yet.
ImageSet open_images(const PictureOptions& options) {
  const std::shared_ptr<const ImageSource> source = open_image_source(options.path, {.alpha = options.alpha});
  const auto wanted = options.num.value_or(source->size());
  EPD_REQUIRE(wanted <= source->size(), options.path.string(), ": found ", source->size(), " images, --num asks for ",
              wanted);
  EPD_REQUIRE(wanted >= 2, options.path.string(), ": a Frechet distance needs at least 2 images, there is 1");
  return {{}, source, random_subset(source->size(), wanted, options.seed)};
}

/// Their features.
void read_features(ImageSet& set, const PictureOptions& options, const std::shared_ptr<const Detector>& detector,
                   ProcessGroup& group) {
  set.data = score_images(*set.source, set.indices, detector, options.pass, group, options.path.string());
  std::erase_if(set.indices, [&](std::size_t i) { return std::ranges::binary_search(set.data.skipped, i); });
  const auto& statistics = set.data.statistics;
  if (group.is_root() && statistics.count < statistics.num_features()) {
    log::warning(options.path.string(), ": ", statistics.count, " images are fewer than the ",
                 statistics.num_features(), " features; the FID is strongly biased");
  }
}

PictureOptions reference_pictures(const CalcOptions& options) {
  auto pictures = options.pictures;
  pictures.path = options.reference;
  pictures.num.reset();
  return pictures;
}

/// Statistics as they are, or images that are not read yet.
ImageSet open_reference(const CalcOptions& options) {
  if (!is_statistics_file(options.reference)) return open_images(reference_pictures(options));
  ImageSet set{read_feature_set(options.reference, options.metrics.need_features()), nullptr, {}};
  require_features(set.data, options.metrics);
  return set;
}

/// 2024-02-29, in UTC.
std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  gmtime_r(&now, &date);
  char digits[16];
  std::strftime(digits, sizeof(digits), "%Y-%m-%d", &date);
  return digits;
}

Json describe(const Statistics& statistics) {
  return {{"path", statistics.source},
          {"num", statistics.count > 0 ? Json(statistics.count) : Json()},
          {"skipped", statistics.skipped}};
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
                 {"version", text("epd ", version())},
                 {"date", today()}});
  return record;
}

bool is_stdout(const std::filesystem::path& path) {
  return path == "-" || path == "/dev/stdout" || path == "/dev/fd/1" || path == "/proc/self/fd/1";
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
  options.pictures.validated();
  options.pictures.pass.keep_features = options.metrics.need_features() || !options.report.empty();
  if (group.is_root() && !options.report.empty()) prepare_output(options.report);
  auto generated = open_images(options.pictures);
  options.reference = find_reference(given.reference);
  auto reference = open_reference(options);
  const auto detector = open_detector(options.pictures, device, reference.data.statistics);
  if (reference.source) {
    read_features(reference, reference_pictures(options), detector, group);
  } else {
    require_same_detector(*detector, reference.data.statistics);
    if (options.pictures.detector.empty()) warn_of_unknown_detector(*detector, reference.data.statistics);
  }
  read_features(generated, options.pictures, detector, group);
  synchronize(device);
  const double seconds_features = total.seconds();
  CalcResult result;
  if (!group.is_root()) return result;
  const Stopwatch scoring;
  result.scores = score(generated.data, reference.data, options.metrics, device);
  result.record = make_record(result.scores, generated.data.statistics, reference.data.statistics, options, *detector);
  if (!device.is_cpu()) result.record["device_name"] = device_name(device);
  result.record.update({{"processes", group.size()},
                        {"threads", at::get_num_threads()},
                        {"seconds_features", seconds_features},
                        {"seconds_scores", scoring.seconds()}});
  if (!options.report.empty()) {
    write_output(options.report, report_page(result.scores, generated, reference, result.record));
  }
  return result;
}

void prepare_output(const std::filesystem::path& path) {
  if (is_stdout(path)) return;
  if (path.has_parent_path()) create_folder(path.parent_path(), path.string());
  const AtomicFile probe(path);
}

void write_output(const std::filesystem::path& path, const std::string& bytes) {
  is_stdout(path) ? void(std::cout << bytes) : write_file(path, bytes);
}

void run_ref(const RefOptions& options, ProcessGroup& group, at::Device device) {
  auto pictures = options.pictures.validated();
  pictures.pass.keep_features = options.save_features;
  if (group.is_root()) prepare_output(options.dest);
  auto set = open_images(pictures);
  read_features(set, pictures, open_detector(pictures, device), group);
  if (group.is_root()) write_feature_set(options.dest, set.data);
}

}  // namespace epd
