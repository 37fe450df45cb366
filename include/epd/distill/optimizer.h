#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace epd {

/// Adam (Kingma and Ba 2015; betas 0.9 and 0.999, eps 1e-8, as published) on a predictor's raw parameters, in float64,
/// with a state that can be kept and restored.
class AdamOptimizer {
 public:
  struct Moments {
    std::vector<double> mean, square;
    std::int64_t steps = 0;
  };

  explicit AdamOptimizer(const std::vector<double>& parameters);
  ~AdamOptimizer();

  std::vector<double> parameters() const;
  /// One update along this gradient.
  void step(const std::vector<double>& gradient, double learning_rate);

  Moments moments() const;
  void restore(const std::vector<double>& parameters, const Moments& moments);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace epd
