#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "epd/core/options.h"
#include "epd/distributed/process_group.h"
#include "epd/files/json.h"
#include "epd/solver/solver.h"

namespace epd {

/// --afs: a boolean that takes `mean` too.
template <>
struct OptionValue<Afs> {
  static constexpr auto kKind = Option::Kind::kBool;
  static std::string type() { return "BOOL|mean"; }
  static Afs read(const std::string& word, const std::string& name) {
    const auto yes_or_no = read_bool(word);
    EPD_REQUIRE_USAGE(yes_or_no || word == "mean", name, ": expected True, False or mean, got '", shown(word), "'");
    return !yes_or_no ? Afs::kMean : *yes_or_no ? Afs::kAnalytical : Afs::kNo;
  }
  static std::string write(Afs value) { return name_of(kAfsNames, value); }
};

/// Seeds that are given, or "random:64": that many, drawn once from the system's entropy.
struct SeedList : std::vector<std::uint64_t> {
  using std::vector<std::uint64_t>::vector;
  SeedList() = default;
  SeedList(std::vector<std::uint64_t> seeds) : std::vector<std::uint64_t>(std::move(seeds)) {}  // NOLINT: on purpose

  bool random = false;
};

/// "random:N" or what parse_seeds reads. Throws UsageError. The drawn ones rise, are below 2^31 as seeds that nothing
/// is trained on, and differ.
SeedList read_seed_list(const std::string& text);

template <>
struct OptionValue<SeedList> : OptionValue<std::vector<std::uint64_t>> {
  static SeedList read(const std::string& word, const std::string&) { return read_seed_list(word); }
};

/// Throws Error, naming the first difference, on every rank whose record is not the root's. Called by all ranks.
void require_same_record(ProcessGroup& group, const Json& record);

}  // namespace epd

/// Help texts of options that several programs have.
namespace epd::option_help {

inline constexpr const char* kModelPath = "model file, denoiser.ts (default: the model of --dataset_name)";
inline constexpr const char* kDetector = "feature network (default: inception; for demo, its own network)";
inline constexpr const char* kSchedule = "time schedule";
inline constexpr const char* kSigmaMin = "lowest time of the schedule (default: the model's)";
inline constexpr const char* kSigmaMax = "highest time of the schedule, where the images begin (default: the model's)";
inline constexpr const char* kForcePredictor =
    "use a predictor that was trained for another model or condition, if its images have the same shape";
inline constexpr const char* kAfs =
    "analytical first step: x / sqrt(1 + t^2) (True) or the data mean (mean) replaces the first evaluation";
inline constexpr const char* kGuidance =
    "guidance: cg (classifier), cfg (classifier-free), autoguidance (a weaker network), uncond (condition dropped)";
inline constexpr const char* kGuidanceRate = "guidance scale";
inline constexpr const char* kThresholding = "dynamic thresholding of denoised images";
inline constexpr const char* kBatch = "images per batch, all processes together";
inline constexpr const char* kChunk =
    "images per forward pass, padded, so results do not depend on --batch (0: 16 on the CPU; on a GPU what fits, up to "
    "64, for training 16)";
inline constexpr const char* kPointsAtOnce = "parallel points per forward pass (0: all)";
inline constexpr const char* kOnBad = "an image that is not finite: end the run, or leave the image out and name it";
inline constexpr const char* kPrecision = "precision of the network; auto: fp32 on the CPU, the model's own on a GPU";
inline constexpr const char* kEngine =
    "what runs the network; auto: what ./launch.sh model --optimize has compiled, where it fits, else TorchScript";
inline constexpr const char* kMetrics = "comma-separated: fid, kid, prdc (precision, recall, density, coverage)";

}  // namespace epd::option_help
