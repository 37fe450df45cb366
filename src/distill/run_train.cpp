#include "epd/distill/run_train.h"

#include <ATen/Context.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/paths.h"
#include "epd/core/progress.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/open_model.h"
#include "epd/distill/run_files.h"
#include "epd/io/atomic_file.h"
#include "epd/io/folder_lock.h"
#include "epd/io/json_writer.h"
#include "epd/io/model_facts_json.h"
#include "epd/io/predictor_json.h"
#include "epd/io/run_dir.h"
#include "epd/metrics/detector.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/data_mean.h"
#include "evaluator.h"

namespace epd {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kPreviewImages = 8;

/// Everything that the run's result depends on, a field a line.
std::string fingerprint_of(const TrainOptions& o, const OpenedModel& model, const std::string& detector_sha256,
                           std::int64_t chunk) {
  const auto order = [](const std::optional<int>& value) { return value ? std::to_string(*value) : "none"; };
  JsonObject json;
  json.add("model", model.model->sha256()).add("detector", detector_sha256);
  json.add("precision", name_of(kPrecisionNames, model.model->precision())).add("chunk", chunk);
  json.add("dataset_name", o.dataset_name).add("sampler_stu", name_of(kStudentNames, o.student));
  json.add("num_steps", o.num_steps).add("num_points", o.num_points);
  json.raw("afs", json_afs(o.afs)).add("fcn", o.fcn);
  json.add("schedule_type", name_of(kScheduleNames, o.schedule_kind)).add("schedule_rho", o.schedule_rho);
  json.add("scale_dir", o.scale_dir).add("scale_time", o.scale_time).add("init", o.resolved_init());
  json.add("max_order", order(o.max_order)).add("max_order_stu", order(o.max_order_stu));
  json.add("max_order_tea", order(o.max_order_tea)).add("sampler_tea", name_of(kSolverNames, o.teacher));
  json.add("M", o.num_inserted).add("inner_steps", order(o.inner_steps)).add("predict_x0", o.predict_x0);
  json.add("lower_order_final", o.lower_order_final).add("teacher_cache", o.teacher_cache);
  json.add("guidance_type", name_of(kGuidanceNames, o.guidance_type)).add("thresholding", o.thresholding);
  json.add("guidance_rate", o.guidance_rate.value_or(1)).add("objective", name_of(kObjectiveNames, o.objective));
  json.add("loss_metric", name_of(kLossMetricNames, o.loss_metric)).add("alpha", o.alpha);
  json.add("total_kimg", o.total_kimg)
      .add("batch", o.batch)
      .add("lr", o.lr.value_or(o.kDefaultRate))
      .add("coslr", o.coslr);
  json.add("seed", o.seed);
  if (o.alpha_from > 0) json.add("alpha_from", o.alpha_from);
  if (o.schedule_tea) json.add("schedule_tea", name_of(kScheduleNames, *o.schedule_tea));
  if (o.schedule_rho_tea) json.add("schedule_rho_tea", *o.schedule_rho_tea);
  if (o.val_images > 0) {
    json.add("val_images", o.val_images).add("val_every", o.val_every).add("patience", o.patience);
  }
  if (o.student == StudentKind::kNs) {
    json.add("start", sha256_hex(predictor_text(o.initial_predictor(model.facts()))));
    json.add("lr_weights", o.rates.weights).add("lr_times", o.rates.times).add("lr_sigmas", o.rates.sigmas);
  }
  return json.pretty();
}

/// The first line in which two fingerprints differ.
std::string first_difference(const std::string& before, const std::string& now) {
  std::istringstream a(before), b(now);
  std::string was, is;
  while (std::getline(a, was) && std::getline(b, is)) {
    if (was != is) return text("it had ", was, " and now is asked for ", is);
  }
  return "its options are of another version";
}

OpenedModel open(const TrainRun& run, std::int64_t chunk) {
  const auto& o = run.options;
  if (run.resources.device.is_cuda()) at::globalContext().setBenchmarkCuDNN(run.bench);
  ModelOptions model;
  model.path = find_model(o.dataset_name, run.model_path);
  model.device = run.resources.device;
  model.precision = run.precision;
  model.guidance = {o.guidance_type, o.guidance_rate.value_or(1), o.thresholding};
  model.chunks = {chunk, run.points_at_once};
  return open_model(model);
}

std::shared_ptr<const Detector> open_detector(const TrainRun& run) {
  if (run.options.loss_metric == LossMetric::kL2) {
    EPD_REQUIRE_USAGE(run.detector.empty(), "detector: loss_metric l2 uses none");
    return nullptr;
  }
  EPD_REQUIRE_USAGE(run.options.loss_metric != LossMetric::kLpips || !run.detector.empty(),
                    "loss_metric lpips: give an LPIPS network as TorchScript with --detector");
  DetectorOptions options;
  options.device = run.resources.device;
  return std::make_shared<const Detector>(find_detector(run.options.dataset_name, run.detector), options);
}

std::unique_ptr<Loss> make_last_loss(const TrainRun& run, const OpenedModel& model,
                                     std::shared_ptr<const Detector> detector, std::int64_t chunk) {
  if (!detector) return l2_loss();
  auto features = feature_loss([detector](const at::Tensor& images) { return detector->features_of(images); },
                               [model = model.model](const at::Tensor& states) { return model->decode(states); },
                               run.options.alpha, chunk);
  if (run.options.loss_metric != LossMetric::kL2AndFeatures) return features;
  return sum_of_losses(l2_loss(), std::move(features));
}

std::shared_ptr<const Conditions> make_run_conditions(const TrainRun& run, const OpenedModel& model,
                                                      std::int64_t chunk) {
  ConditionOptions options;
  if (!run.prompt.empty()) options.prompt = run.prompt;
  options.prompt_file = run.prompt_path;
  options.captions_repeat = true;
  options.chunk = chunk;
  auto conditions = make_conditions(model.model, find_model(run.options.dataset_name, run.model_path), options);
  const bool begins_with_mean = run.options.initial_predictor(model.facts()).afs == Afs::kMean;
  if (!begins_with_mean) return conditions;
  return with_mean(std::move(conditions), model);
}

ConditionSource make_condition_source(std::shared_ptr<const Conditions> conditions) {
  return [conditions = std::move(conditions)](const std::vector<std::uint64_t>& seeds, const at::Tensor& labels) {
    return conditions->of(seeds, labels);
  };
}

/// The run's folder: made by the root, known to all.
fs::path make_folder(const TrainRun& run, const PredictorSpec& student, ProcessGroup& group) {
  std::string folder;
  if (group.is_root()) {
    if (!run.resume.empty()) {
      folder = find_run_dir(run.resume, run.outdir).string();
    } else if (run.nosubdir) {
      std::error_code error;
      fs::create_directories(run.outdir, error);
      EPD_REQUIRE(!error, "outdir: cannot make the folder ", run.outdir.string(), ": ", error.message());
      EPD_REQUIRE(!fs::exists(run.outdir / "training_options.json"), "outdir: ", run.outdir.string(),
                  " already holds a training run; go on with --resume, or choose another folder");
      folder = run.outdir.string();
    } else {
      folder = make_run_dir(run.outdir, run_name(run, student)).string();
    }
  }
  return group.broadcast_bytes(folder, "run folder");
}

/// The run's files and its clock; only the root writes.
class Record {
 public:
  Record(const TrainRun& run, fs::path folder, bool writes, std::string fingerprint)
      : run_(run), folder_(std::move(folder)), writes_(writes), fingerprint_(std::move(fingerprint)) {
    if (!writes_) return;
    lock_.emplace(folder_);
    remove_temporary_files(folder_);
    log::also_to_file((folder_ / "log.txt").string());
  }

  /// Puts the trainer where the folder's state left it. Nothing happens in a new run.
  void resume(Trainer& trainer) {
    const auto state = read_training_state(folder_);
    if (!state) {
      log::info("no state in ", folder_.string(), " yet: beginning anew");
      return;
    }
    EPD_REQUIRE_USAGE(state->fingerprint == fingerprint_, "resume: ", folder_.string(),
                      " is another run: ", first_difference(state->fingerprint, fingerprint_));
    trainer.restore(*state);
    seconds_before_ = state->seconds;
    if (writes_) trim_stats(folder_ / "stats.jsonl", state->iteration);
    log::info("resumed ", folder_.string(), " at iteration ", state->iteration);
  }

  void write_options() const {
    if (writes_) write_file(folder_ / "training_options.json", run_.command_line + "\n");
  }

  void write_state(const Trainer& trainer) const {
    if (!writes_) return;
    TrainingState state = trainer.state();
    state.seconds = seconds();
    state.fingerprint = fingerprint_;
    write_training_state(folder_, state);
  }

  void write_predictor(const PredictorSpec& predictor, const std::string& name) const {
    if (writes_) write_file(folder_ / name, predictor_text(predictor), Durability::kSync);
  }

  void write_stats(const TickStats& stats, const PredictorSpec& predictor) const {
    if (!writes_) return;
    std::ofstream file(folder_ / "stats.jsonl", std::ios::app);
    file << stats_line(stats, predictor) << "\n" << std::flush;
    EPD_REQUIRE(file.good(), "cannot write ", (folder_ / "stats.jsonl").string());
  }

  double seconds() const { return seconds_before_ + std::chrono::duration<double>(Clock::now() - start_).count(); }
  const fs::path& folder() const { return folder_; }
  bool writes() const { return writes_; }

 private:
  const TrainRun& run_;
  fs::path folder_;
  bool writes_;
  std::string fingerprint_;
  std::optional<FolderLock> lock_;
  double seconds_before_ = 0;
  Clock::time_point start_ = Clock::now();
};

std::string snapshot_name(double kimg) {
  std::ostringstream name;
  name << "predictor-" << std::setw(6) << std::setfill('0') << static_cast<std::int64_t>(kimg) << ".json";
  return name.str();
}

/// Gathers the losses of a tick and does what is due at its end. A tick is the fewest iterations that make its kimg;
/// the last one may be shorter.
class Ticks {
 public:
  Ticks(const TrainRun& run, const Record& record, const Evaluator* evaluator, const Trainer& trainer)
      : run_(run),
        record_(record),
        evaluator_(evaluator),
        iterations_a_tick_(iterations_a_tick(run)),
        begun_at_(kimg_of(trainer)),
        begun_(record.seconds()) {}

  void after(const IterationReport& report, const Trainer& trainer) {
    add(report);
    if (trainer.iteration() % iterations_a_tick_ == 0 || trainer.done()) end(trainer);
  }

 private:
  double kimg_of(const Trainer& trainer) const {
    return static_cast<double>(trainer.iteration() * run_.options.batch) / 1000;
  }
  static std::int64_t iterations_a_tick(const TrainRun& run) {
    const double iterations = run.tick * 1000 / static_cast<double>(run.options.batch);
    return static_cast<std::int64_t>(std::clamp(std::ceil(iterations - 1e-9), 1.0, 1e15));  // no more for a rounding
  }

  void add(const IterationReport& report) {
    const auto nonfinite = sum_.nonfinite_gradients + report.nonfinite_gradients;
    const auto losses = sum_.loss;
    const auto validation = report.validation ? report.validation : sum_.validation;
    sum_ = report;
    sum_.validation = validation;
    for (std::size_t n = 0; n < losses.size(); ++n) sum_.loss[n] += losses[n];
    sum_.nonfinite_gradients = nonfinite;
    ++iterations_;
  }

  void end(const Trainer& trainer) {
    TickStats stats;
    stats.tick = (trainer.iteration() + iterations_a_tick_ - 1) / iterations_a_tick_;
    stats.iteration = trainer.iteration();
    stats.kimg = kimg_of(trainer);
    stats.seconds = record_.seconds();
    stats.seconds_per_kimg = (stats.seconds - begun_) / (stats.kimg - begun_at_);
    stats.last = sum_;
    for (double& loss : stats.last.loss) loss /= static_cast<double>(iterations_);
    const bool due = evaluator_ && (stats.tick % run_.evaluation.every == 0 || trainer.done());
    if (due) stats.frechet_distance = evaluator_->distance(trainer.predictor());
    record_.write_stats(stats, trainer.predictor());
    if (stats.last.nonfinite_gradients > 0) {
      log::warning(stats.last.nonfinite_gradients, " gradients were no numbers and were left out");
    }
    log::debug("kimg ", stats.kimg, ", loss ", stats.last.loss.back(), ", ", stats.seconds_per_kimg, " s/kimg");
    const bool snapshot_due = run_.snap > 0 && stats.tick % run_.snap == 0;
    if (snapshot_due) record_.write_predictor(trainer.predictor(), snapshot_name(stats.kimg));
    if (run_.dump > 0 && stats.tick % run_.dump == 0) record_.write_state(trainer);
    sum_ = {};
    iterations_ = 0;
    begun_at_ = stats.kimg;
    begun_ = record_.seconds();  // evaluating is no training
  }

  const TrainRun& run_;
  const Record& record_;
  const Evaluator* evaluator_;  // none where nothing is evaluated
  std::int64_t iterations_a_tick_;
  double begun_at_, begun_;
  IterationReport sum_;
  std::int64_t iterations_ = 0;
};

void train(Trainer& trainer, const TrainRun& run, const Record& record, const Evaluator* evaluator,
           ProcessGroup& group) {
  constexpr double kSecondsBetweenStates = 60;
  Progress progress("training", trainer.num_iterations() * run.options.batch, "images", group.is_root());
  progress.skip(trainer.iteration() * run.options.batch);
  Ticks ticks(run, record, evaluator, trainer);
  double last_state = record.seconds();
  try {
    while (!trainer.done()) {
      group.check_interrupt();
      const auto report = trainer.iterate();
      progress.advance(run.options.batch);
      progress.note(text("loss ", report.loss.back()));
      ticks.after(report, trainer);
      if (record.seconds() - last_state > kSecondsBetweenStates) {
        record.write_state(trainer);
        last_state = record.seconds();
      }
    }
  } catch (const Interrupted&) {
    record.write_state(trainer);
    log::info("stopped at iteration ", trainer.iteration(), "; go on with --resume ", record.folder().string());
    throw;
  }
}

}  // namespace

TrainRun with_dataset_name(TrainRun run) {
  auto& name = run.options.dataset_name;
  if (name.empty()) name = read_model_facts(find_model(name, run.model_path)).dataset_name;
  return run;
}

std::string run_name(const TrainRun& run, const PredictorSpec& student) {
  std::ostringstream name;
  name << run.options.dataset_name << "-" << student.num_steps << "-"
       << student_nfe(student) * guidance_cost(student.guidance_type) << "-" << name_of(kStudentNames, student.kind)
       << "-" << schedule_tag(student.schedule);
  if (student.afs != Afs::kNo) name << (student.afs == Afs::kMean ? "-mean" : "-afs");
  if (!run.desc.empty()) name << "-" << run.desc;
  return name.str();
}

fs::path run_train(const TrainRun& run, ProcessGroup& group) {
  run.options.validated();
  EPD_REQUIRE_USAGE(run.tick > 0, "tick: expected a positive number of kimg, got ", run.tick);
  EPD_REQUIRE_USAGE(run.snap >= 0 && run.dump >= 0, "snap and dump: expected 0 or more ticks");
  EPD_REQUIRE_USAGE(run.evaluation.every >= 0, "eval_every: expected 0 or more ticks");
  EPD_REQUIRE_USAGE((run.evaluation.every > 0) == !run.evaluation.reference.empty(),
                    "eval_every and fid: one needs the other");
  EPD_REQUIRE_USAGE(run.desc.find('/') == std::string::npos, "desc: '", run.desc, "' would leave outdir");
  const std::int64_t chunk = run.chunk > 0 ? run.chunk : run.resources.device.is_cuda() ? 64 : 16;
  const auto model = open(run, chunk);
  const auto detector = open_detector(run);
  const auto fingerprint = fingerprint_of(run.options, model, detector ? detector->sha256() : "none", chunk);
  group.require_same("the options and the model", fingerprint);

  const auto conditions = make_run_conditions(run, model, chunk);
  std::unique_ptr<const Evaluator> evaluator;
  if (run.evaluation.every > 0) evaluator = std::make_unique<Evaluator>(run, model, conditions, group);
  const auto teacher_of = [&](const TrainOptions& options) {
    return make_teacher(options, *model.denoiser, make_condition_source(conditions), run.resources.device);
  };
  Trainer trainer(run.options, *model.denoiser, teacher_of(run.options), make_last_loss(run, model, detector, chunk),
                  run.resources, group,
                  run.options.val_images > 0 ? teacher_of(run.options.for_validation()) : nullptr);
  Record record(run, make_folder(run, trainer.predictor(), group), group.is_root(), fingerprint);
  if (run.resume.empty()) {
    record.write_options();
    record.write_state(trainer);
  } else {
    record.resume(trainer);
  }
  log::info("training in ", record.folder().string());
  train(trainer, run, record, evaluator.get(), group);
  record.write_state(trainer);
  record.write_predictor(trainer.best_predictor(), "predictor.json");
  if (record.writes()) {
    const auto [ours, wanted] = trainer.preview(kPreviewImages);
    write_preview(record.folder() / "preview.png", model.model->decode(ours), model.model->decode(wanted));
  }
  return record.folder();
}

}  // namespace epd
