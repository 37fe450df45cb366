#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <vector>

#include "epd/denoiser/denoiser.h"
#include "support/closed_denoisers.h"

namespace epd::testing {

/// The closed mixtures as a denoiser of tensors, float64 or float32; condition.labels picks the mixture of an image.
/// It counts its forwards and the rows in them.
class TensorMixture : public AutogradDenoiser {
 public:
  const ModelFacts& facts() const override { return facts_; }

  at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                      const Condition& condition) const override {
    ++forwards;
    rows += x.size(0);
    const auto labels =
        condition.labels.defined() ? condition.repeat(num_points).labels : at::zeros({x.size(0)}, at::kLong);
    const auto a = of(labels, &Mixture::a, x), mu = of(labels, &Mixture::mu, x), s = of(labels, &Mixture::s, x);
    const auto sigma_2 = sigma.square().view({-1, 1, 1, 1}), s_2 = s * s, v = s_2 + sigma_2;
    return a + (s_2 * (x - a) + sigma_2 * mu * at::tanh(mu * (x - a) / v)) / v;
  }

  mutable std::atomic<int> forwards = 0;  // a chunked denoiser asks from several threads
  mutable std::atomic<std::int64_t> rows = 0;

 private:
  static at::Tensor of(const at::Tensor& labels, double Mixture::*number, const at::Tensor& x) {
    std::vector<double> values;
    for (const auto& mixture : kLabelMixtures) values.push_back(mixture.*number);
    return at::tensor(values, at::kDouble).to(x.options()).index_select(0, labels).view({-1, 1, 1, 1});
  }

  ModelFacts facts_;
};

}  // namespace epd::testing
