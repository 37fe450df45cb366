#pragma once

#include "epd/core/options.h"
#include "epd/solver/option_names.h"

/// Help texts of options that several programs have.
namespace epd::option_help {

inline constexpr const char* kModelPath = "model file, denoiser.ts (default: the model of --dataset_name)";
inline constexpr const char* kDetector = "feature network (default: inception; for demo, its own network)";
inline constexpr const char* kSchedule = "time schedule";
inline constexpr const char* kAfs =
    "analytical first step: x / sqrt(1 + t^2) (True) or the data mean (mean) replaces the first evaluation";
inline constexpr const char* kGuidance = "guidance: cg (classifier), cfg (classifier-free), uncond (condition dropped)";
inline constexpr const char* kGuidanceRate = "guidance scale";
inline constexpr const char* kThresholding = "dynamic thresholding of denoised images";
inline constexpr const char* kBatch = "images per batch, all processes together";
inline constexpr const char* kChunk =
    "images per forward pass, padded, so results do not depend on --batch (0: 16 on the CPU, 64 on a GPU)";
inline constexpr const char* kPointsAtOnce = "parallel points per forward pass (0: all)";
inline constexpr const char* kPrecision =
    "precision of the network; auto: fp32 on the CPU, the model's own on a GPU";
inline constexpr const char* kMetrics = "comma-separated: fid, kid, prdc (precision, recall, density, coverage)";

}  // namespace epd::option_help
