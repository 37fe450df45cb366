#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>

#include "epd/solver/solver.h"

namespace epd {

/// The last directions of a trajectory and their Adams-Bashforth combination on a uniform grid.
template <class S>
class AdamsBashforth {
 public:
  static constexpr int kMaxOrder = 4;

  explicit AdamsBashforth(int max_order) : max_order_(max_order) {}

  /// sum_j b_j d_{n-j} of order min(max_order, directions seen + 1); Hairer, Norsett, Wanner (1993), III.1.
  Expression<S> direction(const Expression<S>& d_cur) const {
    static constexpr std::array<std::array<double, 4>, 4> kWeights{{
        {1., 0., 0., 0.},
        {3. / 2, -1. / 2, 0., 0.},
        {23. / 12, -16. / 12, 5. / 12, 0.},
        {55. / 24, -59. / 24, 37. / 24, -9. / 24},
    }};
    const auto order = std::min<std::size_t>(max_order_, history_.size() + 1);
    const auto& weights = kWeights[order - 1];
    auto sum = weights[0] * d_cur;
    for (std::size_t j = 1; j < order; ++j) sum += weights[j] * history_[j - 1];
    return sum;
  }

  /// Remembers d_cur, keeping the last max_order - 1.
  void push(const Expression<S>& d_cur) {
    history_.push_front(d_cur);
    if (history_.size() > static_cast<std::size_t>(max_order_ - 1)) history_.pop_back();
  }

 private:
  int max_order_;
  std::deque<Expression<S>> history_;  // newest first
};

/// Improved PNDM (Zhang and Chen 2023, section 3.3; Liu et al. 2022): Adams-Bashforth on the directions with a warm-up
/// of lower orders, 1 evaluation a step.
///   x_next = x + (t_next - t_cur) sum_j b_j d_{n-j}
class IpndmSolver : public Solver {
 public:
  explicit IpndmSolver(const SolverOptions& o) : history_(o.max_order.value()) {}

  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    const auto d_cur = direction_at(plan, x, at);
    const auto x_next = x + (t_next - t_cur) * history_.direction(d_cur);
    history_.push(d_cur);
    return x_next;
  }

 private:
  AdamsBashforth<double> history_;
};

}  // namespace epd
