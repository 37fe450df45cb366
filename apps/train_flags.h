#pragma once

#include "cli.h"
#include "epd/distill/run_train.h"

namespace epd::cli {

/// The command line of `train`.
struct TrainFlags {
  Common common;
  TrainRun run;
  std::string reference, eval_seeds = "0-4095";
  bool dry_run = false;
};

void add_flags(CLI::App& app, TrainFlags& flags);

/// Throws UsageError for what cannot be meant; Error for a reference name whose file is not there.
TrainRun read_train(const TrainFlags& flags);

}  // namespace epd::cli
