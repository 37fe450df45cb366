#pragma once

#include <cstddef>
#include <vector>

namespace epd {

/// One solver step: from the noise level `cur` down to `next`.
struct Interval {
  double cur, next;
  double dt() const { return next - cur; }
};

/// A grid of noise levels, t[0] = sigma_max > ... > t[N-1] = sigma_min > 0; built valid or not at all.
class TimeSteps {
 public:
  /// Throws Error unless there are at least two finite, positive, falling times.
  explicit TimeSteps(std::vector<double> t);

  std::size_t size() const { return t_.size(); }
  std::size_t num_intervals() const { return t_.size() - 1; }
  double operator[](std::size_t i) const { return t_[i]; }
  Interval interval(std::size_t n) const { return {t_[n], t_[n + 1]}; }
  const std::vector<double>& values() const { return t_; }

 private:
  std::vector<double> t_;
};

}  // namespace epd
