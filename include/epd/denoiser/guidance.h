#pragma once

#include <memory>

#include "epd/core/model_facts.h"
#include "epd/denoiser/denoiser.h"
#include "epd/denoiser/torchscript.h"

namespace epd {

struct GuidanceOptions {
  GuidanceKind kind = GuidanceKind::kNone;
  double rate = 1;
  bool thresholding = false;  // dynamic thresholding (Saharia et al. 2022, section 2.3): quantile 0.995, at least 1

  /// *this, or throws UsageError where the model cannot be guided so.
  const GuidanceOptions& validated(const ModelFacts& facts) const;
};

/// What one evaluation counts as under the guidance: 2 for cfg and autoguidance, else 1.
int guidance_cost(GuidanceKind kind);

/// A model's D with guidance, the model's clamp and thresholding:
///   none    D(x; sigma, c)
///   uncond  D(x; sigma)
///   cfg     D_u + rate (D_c - D_u), one forward of 2 B rows (Ho and Salimans 2022, in D's terms)
///           (of the model's first guided_channels alone, where its facts name them)
///   autoguidance  G + rate (D - G), G the D of the model's weaker network (Karras et al. 2024)
///   cg      D + rate sigma^2 grad_x log p(c | x; sigma), the gradient a constant (Dhariwal and Nichol 2021)
class GuidedDenoiser : public AutogradDenoiser {
 public:
  GuidedDenoiser(std::shared_ptr<const TorchScriptModel> model, GuidanceOptions options);

  const ModelFacts& facts() const override { return model_->facts(); }
  int cost() const override { return guidance_cost(options_.kind); }
  at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                      const Condition& condition) const override;

 private:
  at::Tensor guided(const at::Tensor& x, const at::Tensor& sigma, const Condition& rows) const;

  std::shared_ptr<const TorchScriptModel> model_;
  GuidanceOptions options_;
};

}  // namespace epd
