#pragma once

#include "epd/core/names.h"

namespace epd {

/// How a run steers the network towards its condition; denoiser/guidance.h has the equations.
enum class GuidanceKind { kNone, kClassifier, kClassifierFree, kUnconditional };

inline constexpr NameTable<GuidanceKind, 4> kGuidanceNames{{
    {"none", GuidanceKind::kNone},
    {"cg", GuidanceKind::kClassifier},
    {"cfg", GuidanceKind::kClassifierFree},
    {"uncond", GuidanceKind::kUnconditional},
}};
constexpr const auto& names_of(GuidanceKind) { return kGuidanceNames; }

}  // namespace epd
