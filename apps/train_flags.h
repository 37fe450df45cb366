#pragma once

#include "cli.h"
#include "epd/distill/run_train.h"

namespace epd::cli {

/// The command line of `train`.
struct TrainFlags {
  Common common;
  TrainRun run;
  bool dry_run = false;
};

void add_flags(CLI::App& app, TrainFlags& flags);

}  // namespace epd::cli
