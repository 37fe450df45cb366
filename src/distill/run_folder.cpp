#include "epd/distill/run_folder.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/documents/predictor_json.h"
#include "epd/documents/run_dir.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"
#include "epd/files/options_json.h"
#include "epd/images/png.h"
#include "epd/metrics/tensor_images.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

double peak_memory_gib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

std::int64_t iterations_a_tick(const TrainRun& run) {
  const double iterations = run.tick * 1000 / static_cast<double>(run.options.batch);
  return static_cast<std::int64_t>(std::clamp(std::ceil(iterations - 1e-9), 1.0, 1e15));  // no more for a rounding
}

/// When a folder that has a state wrote its last one.
fs::file_time_type last_state_time(const fs::path& folder) {
  std::error_code ignored;
  return std::max(fs::last_write_time(folder / "state.bin", ignored),
                  fs::last_write_time(folder / "state-previous.bin", ignored));
}

std::string snapshot_name(double kimg) {
  return text("predictor-", std::setw(6), std::setfill('0'), static_cast<std::int64_t>(kimg), ".json");
}

}  // namespace

std::string stats_line(const TickStats& stats, const PredictorSpec& predictor) {
  Json line{{"tick", stats.tick},
            {"kimg", stats.kimg},
            {"iteration", stats.iteration},
            {"loss", stats.last.loss},
            {"lr", stats.last.learning_rate}};
  if (stats.last.validation) line["validation"] = *stats.last.validation;
  line["nonfinite_gradients"] = stats.last.nonfinite_gradients;
  if (stats.frechet_distance) line["frechet_distance"] = *stats.frechet_distance;
  line.update(
      {{"sec_per_kimg", stats.seconds_per_kimg}, {"seconds", stats.seconds}, {"peak_memory_gib", peak_memory_gib()}});
  if (const auto* plan = predictor.plan()) {
    line["plan"] = json_of(*plan);
    return json_line(line);
  }
  for (const char* group : {"r", "weight", "scale_dir", "scale_time"}) line[group] = Json::array();
  for (const auto& step : epd_table(predictor, predictor.parameters().raw)) {
    line["r"].push_back(step.r);
    line["weight"].push_back(step.weight);
    line["scale_dir"].push_back(step.scale_dir);
    line["scale_time"].push_back(step.scale_time);
  }
  return json_line(line);
}

void trim_stats(const std::filesystem::path& path, std::int64_t iteration) {
  if (!std::filesystem::exists(path)) return;
  auto lines = stream_of(read_file(path));
  std::string kept, line;
  while (std::getline(lines, line)) {
    try {
      auto json = JsonReader::parse(line, path.string());
      if (json.integer("iteration", 0, std::numeric_limits<std::int64_t>::max()) <= iteration) kept += line + "\n";
    } catch (const Error&) {
      // A line that a kill cut short.
    }
  }
  write_file(path, kept);
}

RunFolder::RunFolder(std::filesystem::path path, bool writes, std::string fingerprint)
    : path_(std::move(path)), writes_(writes), fingerprint_(std::move(fingerprint)) {
  if (!writes_) return;
  lock_.emplace(path_);
  remove_temporary_files(path_);
  log::also_to_file((path_ / "log.txt").string());
}

RunFolder::~RunFolder() {
  std::error_code ignored;
  if (writes_ && is_temporary_name(path_.filename().string())) fs::remove_all(path_, ignored);
}

void RunFolder::begin(const Trainer& trainer, const TrainRun& run, const std::string& name, ProcessGroup& group) {
  write_state(trainer);
  write_options(run.command_line);
  if (run.nosubdir) return;
  if (writes_) {
    path_ = name_run_dir(path_, name);
    lock_->renamed(path_);
  }
  path_ = group.broadcast_bytes(path_.string(), "run folder");
}

fs::path find_unfinished_run(const TrainRun& run, const std::string& record) {
  constexpr const char* kOptions = "training_options.json";
  if (run.nosubdir) return fs::exists(run.outdir / kOptions) ? run.outdir : fs::path();
  fs::path newest;
  fs::file_time_type newest_time{};
  std::error_code error;
  for (fs::directory_iterator entry(run.outdir, error), end; !error && entry != end; entry.increment(error)) {
    const auto& folder = entry->path();
    if (!fs::exists(folder / kOptions) || is_temporary_name(folder.filename().string())) continue;
    const auto state = read_training_state(folder);
    if (!state || state->fingerprint != record) continue;
    if (is_done(run.options, *state) && fs::exists(folder / "predictor.json")) continue;
    const auto written = last_state_time(folder);
    if (newest.empty() || written > newest_time) std::tie(newest, newest_time) = std::pair(folder, written);
  }
  // A disk that fails is no reason to begin anew.
  EPD_REQUIRE(!error || error == std::errc::no_such_file_or_directory, "resume: cannot list ", run.outdir.string(),
              ": ", error.message());
  return newest;
}

void require_same_run(const TrainRun& run, const fs::path& folder, const std::string& record) {
  const auto state = read_training_state(folder);
  if (!state || state->fingerprint == record) return;
  const auto there = Json::parse(state->fingerprint, nullptr, false);
  auto same = Json::parse(record);
  const auto length = there.is_object() ? there.value("total_kimg", Json()) : Json();
  if (length.is_number()) same["total_kimg"] = length;
  EPD_REQUIRE_USAGE(there.is_object() && !first_difference(there, same), "resume: ", folder.string(),
                    " was trained with other options: ", first_difference(state->fingerprint, same.dump()));
  const auto& o = run.options;
  TrainOptions before = o;
  before.total_kimg = length.get<double>();
  const std::string change = text("resume: ", folder.string(), " has --total_kimg ", number_text(before.total_kimg),
                                  " and cannot go on with ", number_text(o.total_kimg), ": ");
  EPD_REQUIRE_USAGE(!o.is_cosine(), change, "with --coslr the learning rate so far depends on it");
  EPD_REQUIRE_USAGE(o.alpha_from == 0, change, "with --alpha_from the loss so far depends on it");
  EPD_REQUIRE_USAGE(state->iteration <= o.num_iterations(), change, state->iteration,
                    " iterations are done, more than ", o.num_iterations());
  const auto ends_here = [&](const TrainOptions& options) { return options.num_iterations() == state->iteration; };
  EPD_REQUIRE_USAGE(
      o.validation_images() == 0 || state->iteration % o.val_every == 0 || ends_here(before) == ends_here(o), change,
      "its last validation, after iteration ", state->iteration, ", is not one of every ", o.val_every);
}

void RunFolder::resume(Trainer& trainer, const TrainRun& run) {
  require_same_run(run, path_, fingerprint_);
  const auto state = read_training_state(path_);
  if (!state) {
    log::info("no checkpoint in ", path_.string(), " yet: starting from the beginning");
    return;
  }
  trainer.restore(*state);
  seconds_before_ = state->seconds;
  if (state->fingerprint != fingerprint_) {  // of another length from now on
    write_options(run.command_line);
    write_state(trainer);
  }
  if (writes_) trim_stats(path_ / "stats.jsonl", state->iteration);
  log::info("resumed ", path_.string(), " at iteration ", state->iteration);
}

void RunFolder::write_options(const std::string& json) const {
  if (writes_) write_file(path_ / "training_options.json", json + "\n");
}

void RunFolder::write_state(const Trainer& trainer) const {
  if (!writes_) return;
  TrainingState state = trainer.state();
  state.seconds = seconds();
  state.fingerprint = fingerprint_;
  write_training_state(path_, state);
}

void RunFolder::write_predictor(const PredictorSpec& predictor, const std::string& name) const {
  if (writes_) write_file(path_ / name, sealed(predictor_text(predictor)), Durability::kSync);
}

void RunFolder::append_stats(const TickStats& stats, const PredictorSpec& predictor) const {
  if (!writes_) return;
  std::ofstream file(path_ / "stats.jsonl", std::ios::app);
  file << stats_line(stats, predictor) << "\n" << std::flush;
  EPD_REQUIRE(file.good(), "cannot write ", (path_ / "stats.jsonl").string());
}

void RunFolder::write_preview(const at::Tensor& student, const at::Tensor& teacher) const {
  if (!writes_) return;
  const auto pixels = to_pixels(at::cat({student, teacher})).to(at::kCPU);
  std::vector<Image> images;
  for (std::int64_t i = 0; i < pixels.size(0); ++i) images.push_back(image_of(pixels, i));
  write_file(path_ / "preview.png", encode_png(image_grid(images, static_cast<int>(student.size(0)))));
}

double RunFolder::seconds() const {
  return seconds_before_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

Ticks::Ticks(const TrainRun& run, const RunFolder& folder, Evaluate evaluate, const Trainer& trainer)
    : run_(run),
      folder_(folder),
      evaluate_(std::move(evaluate)),
      iterations_a_tick_(iterations_a_tick(run)),
      start_kimg_(kimg_of(trainer)),
      start_seconds_(folder.seconds()) {}

void Ticks::after(const IterationReport& report, const Trainer& trainer) {
  add(report);
  if (trainer.iteration() % iterations_a_tick_ == 0 || trainer.done()) end(trainer);
}

double Ticks::kimg_of(const Trainer& trainer) const {
  return static_cast<double>(trainer.iteration() * run_.options.batch) / 1000;
}

void Ticks::add(const IterationReport& report) {
  const IterationReport before = std::exchange(sum_, report);
  for (std::size_t n = 0; n < before.loss.size(); ++n) sum_.loss[n] += before.loss[n];
  sum_.nonfinite_gradients += before.nonfinite_gradients;
  if (!sum_.validation) sum_.validation = before.validation;
  ++iterations_;
}

TickStats Ticks::stats_of(const Trainer& trainer) const {
  TickStats stats;
  stats.tick = (trainer.iteration() + iterations_a_tick_ - 1) / iterations_a_tick_;
  stats.iteration = trainer.iteration();
  stats.kimg = kimg_of(trainer);
  stats.seconds = folder_.seconds();
  stats.seconds_per_kimg = (stats.seconds - start_seconds_) / (stats.kimg - start_kimg_);
  stats.last = sum_;
  for (double& loss : stats.last.loss) loss /= static_cast<double>(iterations_);
  return stats;
}

void Ticks::end(const Trainer& trainer) {
  TickStats stats = stats_of(trainer);
  const auto predictor = trainer.predictor();
  const bool evaluation_due = evaluate_ && (stats.tick % run_.evaluation.every == 0 || trainer.done());
  if (evaluation_due) stats.frechet_distance = evaluate_(predictor);
  folder_.append_stats(stats, predictor);
  if (stats.last.nonfinite_gradients > 0) {
    log::warning(stats.last.nonfinite_gradients, " non-finite gradients ignored");
  }
  log::debug("kimg ", stats.kimg, ", loss ", stats.last.loss.back(), ", ", stats.seconds_per_kimg, " s/kimg");
  const bool snapshot_due = run_.snap > 0 && stats.tick % run_.snap == 0;
  if (snapshot_due) folder_.write_predictor(predictor, snapshot_name(stats.kimg));
  const bool state_due = run_.dump > 0 && stats.tick % run_.dump == 0;
  if (state_due) folder_.write_state(trainer);
  sum_ = {};
  iterations_ = 0;
  start_kimg_ = stats.kimg;
  start_seconds_ = folder_.seconds();  // evaluating is no training
}

}  // namespace epd
