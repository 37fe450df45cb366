#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <utility>

#include "epd/solver/solver.h"

namespace epd {

/// DPM-Solver++ multistep, orders 1 to 3, 1 evaluation a step (Lu et al. 2022b, Algorithm 2; DPM-Solver Appendix B for
/// the noise form). With lambda = ln(alpha / t), h = lambda_next - lambda_cur and m the network's output as the
/// exponential integrator sees it:
///   data  (predict_x0): m = D,  x_next = (t_next/t_cur) x - alpha_next (phi_1 m - phi_2 m' + phi_3 m''),
///   noise (EDM alone):  m = d,  x_next = x - t_next (phi_1 m + phi_2 m' + phi_3 m''),
/// phi_1 = e^-h - 1 or e^h - 1, where m', m'' are divided differences over the history; one that reaches back to pure
/// noise, lambda = -infinity, is 0. Order 3 is the authors' code, whose m'' is half the second
/// derivative that phi_3 belongs to: it converges with order 2, with smaller errors than order 2 on coarse grids.
class DpmppSolver : public Solver {
 public:
  explicit DpmppSolver(const SolverOptions& o)
      : max_order_(o.max_order.value()),
        predict_x0_(o.predict_x0),
        lower_order_final_(o.lower_order_final),
        clock_(o.clock) {}

  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    const double lambda = half_log_snr(clock_, t_cur), h = half_log_snr(clock_, t_next) - lambda;
    push(lambda, predict_x0_ ? denoised_at(plan, x, at) : direction_at(plan, x, at));
    const double phi_1 = predict_x0_ ? std::expm1(-h) : std::expm1(h);
    const auto linear = predict_x0_ ? t_next / t_cur * x : x;
    const double scale = predict_x0_ ? alpha_at(clock_, t_next) : t_next;
    switch (order(at)) {
      case 1:
        return linear - scale * phi_1 * output(0);
      case 2:
        return linear - scale * phi_1 * (output(0) + 0.5 * slope(0, h));
      default:
        return third_order(linear, h, phi_1, scale);
    }
  }

 private:
  int order(const StepPosition& at) const {
    const int reached = std::min(max_order_, at.index + 1);
    const bool warming_up = at.index + 1 < max_order_;
    return lower_order_final_ && !warming_up ? std::min(reached, at.count - at.index) : reached;
  }

  Expression<double> third_order(const Expression<double>& linear, double h, double phi_1, double scale) const {
    const double r0 = step_ratio(0, h), r1 = step_ratio(1, h);
    const auto difference = slope(0, h) - slope(1, h);
    const auto first = slope(0, h) + r0 / (r0 + r1) * difference;
    const auto second = 1 / (r0 + r1) * difference;
    const double sign = predict_x0_ ? 1 : -1;
    const double phi_2 = phi_1 / h + sign, phi_3 = phi_2 / h - 0.5;
    return linear - scale * phi_1 * output(0) + scale * sign * phi_2 * first - scale * phi_3 * second;
  }

  void push(double lambda, Expression<double> output) {
    history_.push_front({lambda, std::move(output)});
    if (history_.size() > static_cast<std::size_t>(max_order_)) history_.pop_back();
  }
  const Expression<double>& output(std::size_t age) const { return history_[age].second; }
  double step_ratio(std::size_t age, double h) const { return (history_[age].first - history_[age + 1].first) / h; }
  /// The divided difference of outputs `age` and `age + 1`, in units of h.
  Expression<double> slope(std::size_t age, double h) const {
    return 1 / step_ratio(age, h) * (output(age) - output(age + 1));
  }

  int max_order_;
  bool predict_x0_, lower_order_final_;
  Clock clock_;
  std::deque<std::pair<double, Expression<double>>> history_;  // (lambda, output), newest first
};

}  // namespace epd
