#pragma once

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "epd/solver/ipndm.h"
#include "epd/solver/solver.h"

namespace epd {

/// What the predictor says of one step, per parallel point k (EPD section 3.2).
template <class S>
struct EpdCoefficients {
  std::vector<S> r;           // where the point lies: t_mid = t_next^r t_cur^(1-r), r in (0, 1)
  std::vector<S> weight;      // its share of the step; the shares sum to 1
  std::vector<S> scale_dir;   // o: factor of its direction
  std::vector<S> scale_time;  // s: factor of the noise level that the network is told
};

/// One EPD step: K directions in parallel, ensembled (EPD eq. 9). `towards` is the direction that leads to the
/// intermediate states: d_cur itself, or its Adams-Bashforth combination with the history (the iPNDM plug-in).
///   x_mid_k = x + (t_mid_k - t_cur) towards
///   x_next = x + (t_next - t_cur) sum_k w_k o_k (x_mid_k - D(x_mid_k; s_k t_mid_k)) / t_mid_k
template <class S>
Expression<S> epd_step(PlanBuilder<S>& plan, const Expression<S>& x, const Expression<S>& towards, Interval t,
                       const EpdCoefficients<S>& c) {
  using std::pow;
  const auto [t_cur, t_next] = t;
  const std::size_t num_points = c.r.size();
  std::vector<S> t_mid, sigma;
  std::vector<Expression<S>> x_mid;
  for (std::size_t k = 0; k < num_points; ++k) {
    t_mid.push_back(pow(t_next, c.r[k]) * pow(t_cur, 1 - c.r[k]));
    sigma.push_back(c.scale_time[k] * t_mid[k]);
    x_mid.push_back(plan.state(x + (t_mid[k] - t_cur) * towards));
  }
  const auto denoised = plan.denoise(x_mid, sigma);  // all K points in one forward
  auto x_next = x;
  for (std::size_t k = 0; k < num_points; ++k) {
    x_next += (t_next - t_cur) * c.weight[k] * c.scale_dir[k] * ((x_mid[k] - denoised[k]) / t_mid[k]);
  }
  return x_next;
}

/// EPD, or EPD on iPNDM when max_order is given: 2 serial evaluations a step.
template <class S>
class EpdSolver {
 public:
  EpdSolver(std::vector<EpdCoefficients<S>> table, std::optional<int> max_order) : table_(std::move(table)) {
    if (max_order) history_.emplace(*max_order);
  }

  /// Coefficients that changed during the run: the next step is the first to use them.
  void set_table(std::vector<EpdCoefficients<S>> table) { table_ = std::move(table); }

  Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) {
    const auto d_cur = direction_at(plan, x, at);
    const auto towards = history_ ? history_->direction(d_cur) : d_cur;
    // The history enters as a constant, as published: learning sees it through d_cur alone.
    if (history_) history_->push(detached(d_cur));
    return epd_step(plan, x, towards, at.t, table_.at(static_cast<std::size_t>(at.index)));
  }

 private:
  std::vector<EpdCoefficients<S>> table_;
  std::optional<AdamsBashforth<S>> history_;
};

}  // namespace epd
