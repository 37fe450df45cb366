#pragma once

#include <cstdint>

#include "epd/distill/run_train.h"
#include "evaluator.h"
#include "run_record.h"

namespace epd {

/// Gathers the losses of a tick and does what is due at its end. A tick is the fewest iterations that make its kimg;
/// the last one may be shorter.
class Ticks {
 public:
  /// The first tick begins where the trainer stands. `evaluator` is null where nothing is evaluated.
  Ticks(const TrainRun& run, const RunRecord& record, const Evaluator* evaluator, const Trainer& trainer);

  /// Called after every iteration, with its report.
  void after(const IterationReport& report, const Trainer& trainer);

 private:
  double kimg_of(const Trainer& trainer) const;
  void add(const IterationReport& report);
  void end(const Trainer& trainer);
  TickStats stats_of(const Trainer& trainer) const;

  const TrainRun& run_;
  const RunRecord& record_;
  const Evaluator* evaluator_;
  std::int64_t iterations_a_tick_;
  double begun_at_, begun_;  // kimg and seconds
  IterationReport sum_;      // losses and gradients that were no numbers over the tick, else the last iteration's
  std::int64_t iterations_ = 0;
};

}  // namespace epd
