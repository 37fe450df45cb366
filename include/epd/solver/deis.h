#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "epd/core/names.h"
#include "epd/schedule/sigma_map.h"
#include "epd/solver/solver.h"

namespace epd {

/// In which variable DEIS's polynomial through the last directions lives: the variance-preserving time (tAB) or the
/// noise level itself (rhoAB).
enum class DeisMode { kTimeAb, kRhoAb };

inline constexpr NameTable<DeisMode, 2> kDeisModeNames{{{"tab", DeisMode::kTimeAb}, {"rhoab", DeisMode::kRhoAb}}};

/// Weights w_j with integral of d over [t_cur, t_next] = sum_j w_j d(nodes[j]) for the interpolating polynomial of the
/// directions at the noise levels `nodes` (newest first, nodes[0] = t_cur).
std::vector<double> deis_weights(DeisMode mode, const std::vector<double>& nodes, double t_next,
                                 const VpSigmaMap& clock);

/// DEIS (Zhang and Chen 2023, eq. 15): variable-step Adams-Bashforth, 1 evaluation a step.
///   x_next = x + sum_j w_j d_{n-j}
template <class S>
class DeisSolver : public Solver<S> {
 public:
  static constexpr int kMaxOrder = 4;

  DeisSolver(int max_order, DeisMode mode, VpSigmaMap clock) : max_order_(max_order), mode_(mode), clock_(clock) {}

  Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) override {
    history_.push_front({at.t.cur, direction_at(plan, x, at)});
    if (history_.size() > static_cast<std::size_t>(max_order_)) history_.pop_back();
    std::vector<double> nodes;
    for (const auto& [t, d] : history_) nodes.push_back(t);
    const auto weights = deis_weights(mode_, nodes, at.t.next, clock_);
    auto x_next = x;
    for (std::size_t j = 0; j < nodes.size(); ++j) x_next += S(weights[j]) * history_[j].second;
    return x_next;
  }

 private:
  int max_order_;
  DeisMode mode_;
  VpSigmaMap clock_;
  std::deque<std::pair<double, Expression<S>>> history_;  // (t, direction), newest first
};

}  // namespace epd
