#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli.h"
#include "epd/distill/run_train.h"

namespace epd::cli {

/// Student ns may end worse than its start, so it is validated unless told otherwise.
inline constexpr std::int64_t kPlanValidationImages = 128;

/// The command line of `train`.
struct TrainFlags {
  Common common;
  TrainRun run;
  std::string reference, eval_seeds = "0-4095";
  std::optional<bool> coslr;               // unset: for student ns alone
  std::optional<std::int64_t> val_images;  // unset: kPlanValidationImages for student ns, else none
  bool dry_run = false;
};

void add_flags(CLI::App& app, TrainFlags& flags);

/// Throws UsageError for what cannot be meant; Error for a reference name whose file is not there.
TrainRun read_train(const TrainFlags& flags);

}  // namespace epd::cli
