#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace epd {

/// Where a training run stands: all that it takes to go on as if it had never stopped.
struct TrainingState {
  /// The best student of the validations so far.
  struct Best {
    std::int64_t iteration = 0;
    double loss = 0;
    std::vector<double> parameters;

    bool operator==(const Best&) const = default;
  };

  std::int64_t iteration = 0;  // iterations done
  std::vector<double> parameters;
  std::vector<double> adam_mean, adam_square;  // Adam's running averages, one a parameter
  std::int64_t adam_steps = 0;
  std::optional<Best> best;
  double seconds = 0;       // spent so far
  std::string fingerprint;  // of the options and the model: another run's state is refused

  bool operator==(const TrainingState&) const = default;
};

/// state.bin in the run's folder: JSON behind its own SHA-256, written whole and synced; the one before it stays as
/// state-previous.bin.
void write_training_state(const std::filesystem::path& folder, const TrainingState& state);

/// The newest whole state of the folder, or nothing. A damaged file is passed over with a warning.
std::optional<TrainingState> read_training_state(const std::filesystem::path& folder);

}  // namespace epd
