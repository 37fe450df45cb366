#include "run_record.h"

#include <fstream>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"

namespace epd {

RunRecord::RunRecord(std::filesystem::path folder, bool writes, std::string fingerprint)
    : folder_(std::move(folder)), writes_(writes), fingerprint_(std::move(fingerprint)) {
  if (!writes_) return;
  lock_.emplace(folder_);
  remove_temporary_files(folder_);
  log::also_to_file((folder_ / "log.txt").string());
}

void RunRecord::resume(Trainer& trainer) {
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

void RunRecord::write_options(const std::string& json) const {
  if (writes_) write_file(folder_ / "training_options.json", json + "\n");
}

void RunRecord::write_state(const Trainer& trainer) const {
  if (!writes_) return;
  TrainingState state = trainer.state();
  state.seconds = seconds();
  state.fingerprint = fingerprint_;
  write_training_state(folder_, state);
}

void RunRecord::write_predictor(const PredictorSpec& predictor, const std::string& name) const {
  if (writes_) write_file(folder_ / name, predictor_text(predictor), Durability::kSync);
}

void RunRecord::write_stats(const TickStats& stats, const PredictorSpec& predictor) const {
  if (!writes_) return;
  std::ofstream file(folder_ / "stats.jsonl", std::ios::app);
  file << stats_line(stats, predictor) << "\n" << std::flush;
  EPD_REQUIRE(file.good(), "cannot write ", (folder_ / "stats.jsonl").string());
}

double RunRecord::seconds() const {
  return seconds_before_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

}  // namespace epd
