#include "epd/denoiser/guidance.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <utility>

#include "epd/core/error.h"
#include "epd/denoiser/device.h"

namespace epd {
namespace {

at::Tensor per_image(const at::Tensor& values, const at::Tensor& x) { return values.to(x.dtype()).view({-1, 1, 1, 1}); }

/// grad_x log p(label | x; sigma), as a constant.
at::Tensor classifier_gradient(const TorchScriptModel& model, const at::Tensor& x, const at::Tensor& sigma,
                               const at::Tensor& labels) {
  at::AutoGradMode with_grad(true);
  const auto x_leaf = x.detach().requires_grad_(true);
  const auto log_prob = model.log_prob(x_leaf, sigma.detach(), labels);
  const Tf32 scope(x.device(), model.allows_tf32());
  return torch::autograd::grad({log_prob.sum()}, {x_leaf})[0].detach();
}

/// Each image clamped to its own 0.995 quantile of |D| where that exceeds 1, and divided by it.
at::Tensor dynamic_thresholding(const at::Tensor& denoised) {
  const auto bound = at::quantile(denoised.detach().abs().flatten(1), 0.995, 1).clamp_min(1);
  const auto s = bound.view({-1, 1, 1, 1});
  return at::minimum(at::maximum(denoised, -s), s) / s;
}

}  // namespace

int guidance_cost(GuidanceKind kind) {
  return kind == GuidanceKind::kClassifierFree || kind == GuidanceKind::kAutoguidance ? 2 : 1;
}

const GuidanceOptions& GuidanceOptions::validated(const ModelFacts& facts) const {
  EPD_REQUIRE_USAGE(std::isfinite(rate), "guidance_rate: expected a finite number, got ", rate);
  EPD_REQUIRE_USAGE(kind != GuidanceKind::kClassifier || facts.classifier, "guidance_type cg: the model of ",
                    facts.dataset_name, " has no classifier");
  EPD_REQUIRE_USAGE(kind != GuidanceKind::kClassifier || clock_of(facts.noise) == Clock::kEdm,
                    "guidance_type cg: not for flow models");
  const bool can_drop = facts.condition == ConditionKind::kText ||
                        (facts.condition == ConditionKind::kLabel && facts.label_format == LabelFormat::kOneHot);
  EPD_REQUIRE_USAGE(kind != GuidanceKind::kClassifierFree || can_drop, "guidance_type cfg: the model of ",
                    facts.dataset_name, " has no unconditional mode, which cfg needs");
  EPD_REQUIRE_USAGE(kind != GuidanceKind::kAutoguidance || facts.guide, "guidance_type autoguidance: the model of ",
                    facts.dataset_name, " has no second network");
  EPD_REQUIRE_USAGE(kind != GuidanceKind::kUnconditional || can_drop || facts.condition == ConditionKind::kNone,
                    "guidance_type uncond: the model of ", facts.dataset_name, " cannot run without a label");
  return *this;
}

GuidedDenoiser::GuidedDenoiser(std::shared_ptr<const TorchScriptModel> model, GuidanceOptions options)
    : AutogradDenoiser(model->allows_tf32()), model_(std::move(model)), options_(options) {
  options_.validated(model_->facts());
  if (options_.kind == GuidanceKind::kClassifier) make_gradients_reproducible(model_->device());
}

at::Tensor GuidedDenoiser::evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                    const Condition& condition) const {
  auto denoised = guided(x, sigma, condition.repeat(num_points));
  if (facts().clamp) denoised = denoised.clamp(-1, 1);
  return options_.thresholding ? dynamic_thresholding(denoised) : denoised;
}

at::Tensor GuidedDenoiser::guided(const at::Tensor& x, const at::Tensor& sigma, const Condition& rows) const {
  switch (options_.kind) {
    case GuidanceKind::kNone:
      return model_->forward(x, sigma, rows.value);
    case GuidanceKind::kUnconditional:
      return model_->forward(x, sigma, rows.unconditional);
    case GuidanceKind::kClassifierFree: {
      const auto both =
          model_->forward(at::cat({x, x}), at::cat({sigma, sigma}), at::cat({rows.unconditional, rows.value}));
      const auto unconditional = both.narrow(0, 0, x.size(0)), conditional = both.narrow(0, x.size(0), x.size(0));
      const auto result = unconditional + options_.rate * (conditional - unconditional);
      const auto n = facts().guided_channels;
      return n == 0 ? result : at::cat({result.narrow(1, 0, n), conditional.slice(1, n)}, 1);
    }
    case GuidanceKind::kAutoguidance: {
      const auto weak = model_->guide(x, sigma, rows.value);
      return weak + options_.rate * (model_->forward(x, sigma, rows.value) - weak);
    }
    case GuidanceKind::kClassifier: {
      const auto gradient = classifier_gradient(*model_, x, sigma, rows.labels);
      return model_->forward(x, sigma, rows.value) + options_.rate * per_image(sigma.square(), x) * gradient;
    }
  }
  throw Error("unknown guidance");
}

}  // namespace epd
