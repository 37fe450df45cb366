#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "epd/core/names.h"

namespace epd {

/// sigma(u) = sqrt(exp(beta_d u^2 / 2 + beta_min u) - 1): the continuous variance-preserving schedule.
struct VpNoise {
  double beta_d = 19.9, beta_min = 0.1;
};

/// The noise table of a model trained on discrete time steps: alphas_cumprod[m], m = 0 .. M-1.
struct TableNoise {
  std::vector<double> alphas_cumprod;
};

/// A flow model: a state is x = (1 - s) x_0 + s e, s in (0, 1], and the network predicts the velocity e - x_0.
struct FlowNoise {
  double shift = 1;  // of the schedule flowmatch: s = shift u / (1 + (shift - 1) u)
};

using Noise = std::variant<std::monostate, VpNoise, TableNoise, FlowNoise>;

/// What times are: sigma of x = x_0 + sigma e (EDM), or s of x = (1 - s) x_0 + s e (flow). D(x; t) is the denoised
/// image in both, and dx/dt = (x - D) / t: solvers are the same. Flow begins at s = 1 with the noise itself.
enum class Clock { kEdm, kFlow };
inline constexpr NameTable<Clock, 2> kClockNames{{{"edm", Clock::kEdm}, {"flow", Clock::kFlow}}};
inline Clock clock_of(const Noise& noise) {
  return std::holds_alternative<FlowNoise>(noise) ? Clock::kFlow : Clock::kEdm;
}

enum class ConditionKind { kNone, kLabel, kText };
enum class LabelFormat { kOneHot, kIndex };
/// What the inner network computes in. kTf32 is float32 with TensorFloat-32 matrix products.
enum class Precision { kAuto, kFloat32, kTf32, kFloat16, kBFloat16 };

struct LatentFacts {
  int image_resolution = 0, image_channels = 3;
};

struct TextFacts {
  int tokens = 77, width = 768;
  int rows = tokens;                 // of the states; those of SDXL have one more, with the pooled state
  bool zeros_unconditional = false;  // cfg's other half, without a negative prompt: zeros, not the empty text's states
};

/// Of images, in pixels; 0: the model's own.
struct ImageSize {
  int width = 0, height = 0;
};

/// What a model file says of itself (`facts.json` inside it, contract version 1). Known without loading weights.
struct ModelFacts {
  static constexpr int kContractVersion = 1;

  std::string dataset_name;
  int resolution = 0;  // height and width of the state x: the latent's, for latent models
  int channels = 0;
  int label_dim = 0;  // 0: no labels
  double sigma_min = 0.002, sigma_max = 80;
  ConditionKind condition = ConditionKind::kNone;
  LabelFormat label_format = LabelFormat::kOneHot;
  Precision precision = Precision::kFloat32;  // what the network prefers on a GPU
  bool clamp = false;                         // clamp D to [-1, 1], after guidance
  Noise noise;
  std::optional<LatentFacts> latent;
  std::optional<TextFacts> text;
  bool classifier = false;
  int guided_channels = 0;    // cfg guides the first ones alone; 0: all
  bool guide = false;         // has guide(), the D of a weaker network
  int size_multiple = 0;      // the state's height and width may be any multiples; 0: `resolution` alone
  int width = 0, height = 0;  // of the state where a run has chosen them; 0: `resolution`
  std::map<std::string, std::string> source;  // file name -> sha256

  /// [B, C, H, W] of so many states.
  std::array<std::int64_t, 4> state_shape(std::int64_t images) const {
    return {images, channels, height > 0 ? height : resolution, width > 0 ? width : resolution};
  }
};

/// How a run steers the network towards its condition; denoiser/guidance.h has the equations.
enum class GuidanceKind { kNone, kClassifier, kClassifierFree, kUnconditional, kAutoguidance };

inline constexpr NameTable<GuidanceKind, 5> kGuidanceNames{{
    {"none", GuidanceKind::kNone},
    {"cg", GuidanceKind::kClassifier},
    {"cfg", GuidanceKind::kClassifierFree},
    {"uncond", GuidanceKind::kUnconditional},
    {"autoguidance", GuidanceKind::kAutoguidance},
}};
constexpr const auto& names_of(GuidanceKind) { return kGuidanceNames; }

}  // namespace epd
