#include "ticks.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <utility>

#include "epd/core/log.h"

namespace epd {
namespace {

std::int64_t iterations_a_tick(const TrainRun& run) {
  const double iterations = run.tick * 1000 / static_cast<double>(run.options.batch);
  return static_cast<std::int64_t>(std::clamp(std::ceil(iterations - 1e-9), 1.0, 1e15));  // no more for a rounding
}

std::string snapshot_name(double kimg) {
  std::ostringstream name;
  name << "predictor-" << std::setw(6) << std::setfill('0') << static_cast<std::int64_t>(kimg) << ".json";
  return name.str();
}

}  // namespace

Ticks::Ticks(const TrainRun& run, const RunRecord& record, const Evaluator* evaluator, const Trainer& trainer)
    : run_(run),
      record_(record),
      evaluator_(evaluator),
      iterations_a_tick_(iterations_a_tick(run)),
      begun_at_(kimg_of(trainer)),
      begun_(record.seconds()) {}

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
  stats.seconds = record_.seconds();
  stats.seconds_per_kimg = (stats.seconds - begun_) / (stats.kimg - begun_at_);
  stats.last = sum_;
  for (double& loss : stats.last.loss) loss /= static_cast<double>(iterations_);
  return stats;
}

void Ticks::end(const Trainer& trainer) {
  TickStats stats = stats_of(trainer);
  const auto predictor = trainer.predictor();
  const bool evaluation_due = evaluator_ && (stats.tick % run_.evaluation.every == 0 || trainer.done());
  if (evaluation_due) stats.frechet_distance = evaluator_->distance(predictor);
  record_.write_stats(stats, predictor);
  if (stats.last.nonfinite_gradients > 0) {
    log::warning(stats.last.nonfinite_gradients, " gradients were no numbers and were left out");
  }
  log::debug("kimg ", stats.kimg, ", loss ", stats.last.loss.back(), ", ", stats.seconds_per_kimg, " s/kimg");
  const bool snapshot_due = run_.snap > 0 && stats.tick % run_.snap == 0;
  if (snapshot_due) record_.write_predictor(predictor, snapshot_name(stats.kimg));
  const bool state_due = run_.dump > 0 && stats.tick % run_.dump == 0;
  if (state_due) record_.write_state(trainer);
  sum_ = {};
  iterations_ = 0;
  begun_at_ = stats.kimg;
  begun_ = record_.seconds();  // evaluating is no training
}

}  // namespace epd
