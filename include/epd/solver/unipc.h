#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "epd/solver/solver.h"

namespace epd {
namespace unipc {

/// The weights rho with sum_j rho_j ratios_j^i = b_i (a transposed Vandermonde system), by elimination with pivoting.
inline std::vector<double> solve_moments(const std::vector<double>& ratios, std::vector<double> b) {
  const std::size_t n = ratios.size();
  std::vector<std::vector<double>> a(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) a[i][j] = std::pow(ratios[j], static_cast<double>(i));
  }
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t i = column + 1; i < n; ++i) {
      if (std::abs(a[i][column]) > std::abs(a[pivot][column])) pivot = i;
    }
    std::swap(a[column], a[pivot]);
    std::swap(b[column], b[pivot]);
    for (std::size_t i = 0; i < n; ++i) {
      if (i == column) continue;
      const double factor = a[i][column] / a[column][column];
      for (std::size_t j = column; j < n; ++j) a[i][j] -= factor * a[column][j];
      b[i] -= factor * b[column];
    }
  }
  for (std::size_t i = 0; i < n; ++i) b[i] /= a[i][i];
  return b;
}

}  // namespace unipc

/// The weights of UniP or UniC (UniPC, Theorem 3.1): the solution rho of R rho = b with R_ij = ratios_j^(i-1) and
/// b_i = i! phi_{i+1}(hh) hh / B(hh), for the signed step hh (-h in data form, h in noise form).
inline std::vector<double> unipc_weights(const std::vector<double>& ratios, double hh, UnipcVariant variant) {
  const double b_of_h = variant == UnipcVariant::kBh1 ? hh : std::expm1(hh);
  // phi holds hh phi_{i+1}(hh), from phi_{k+1} = (phi_k - 1/k!) / hh.
  double phi = std::expm1(hh) / hh - 1, factorial = 1;
  std::vector<double> b;
  for (std::size_t i = 1; i <= ratios.size(); ++i) {
    b.push_back(phi * factorial / b_of_h);
    factorial *= static_cast<double>(i + 1);
    phi = phi / hh - 1 / factorial;
  }
  return unipc::solve_moments(ratios, b);
}

/// UniPC multistep, orders 1 to 3 (Zhao et al. 2023): a predictor (UniP), and a corrector (UniC) that uses the
/// evaluation at the predicted state, which serves the next step too: 1 evaluation a step. The last step, whose
/// prediction is not evaluated, has no corrector; nor has that before a step to 0, which needs the evaluation alone.
/// lambda = ln(alpha / t), as in dpmpp.h.
class UnipcSolver : public Solver {
 public:
  explicit UnipcSolver(const SolverOptions& o)
      : max_order_(o.max_order.value()),
        predict_x0_(o.predict_x0),
        lower_order_final_(o.lower_order_final),
        variant_(o.unipc_variant),
        clock_(o.clock) {}

  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    if (history_.empty()) push(t_cur, predict_x0_ ? denoised_at(plan, x, at) : direction_at(plan, x, at));
    const Stage stage = make_stage(x, at);
    const auto x_pred = predict(stage);
    if (at.is_last() || at.image_next) return x_pred;

    const auto x_state = plan.state(x_pred);
    const auto denoised = plan.denoise(x_state, t_next);
    const auto output = predict_x0_ ? denoised : (x_state - denoised) / t_next;
    const auto x_next = correct(stage, output);
    push(t_next, output);
    return x_next;
  }

 private:
  struct Stage {
    Expression<double> linear;                    // the exponential integrator of order 1
    std::vector<double> ratios;                   // (lambda_{n-j} - lambda_n) / h, j = 1 .. order - 1, if finite
    std::vector<Expression<double>> differences;  // (m_{n-j} - m_n) / ratio_j
    double hh, scale_b;                           // signed step; B(hh), times alpha_next, or t_next in noise form
    int order;
  };

  Stage make_stage(const Expression<double>& x, const StepPosition& at) const {
    const auto [t_cur, t_next] = at.t;
    const double lambda = history_[0].first, h = half_log_snr(clock_, t_next) - lambda;
    Stage stage;
    stage.order = order(at);
    stage.hh = predict_x0_ ? -h : h;
    const double scale = predict_x0_ ? alpha_at(clock_, t_next) : t_next;
    stage.scale_b = scale * (variant_ == UnipcVariant::kBh1 ? stage.hh : std::expm1(stage.hh));
    const auto carried = predict_x0_ ? t_next / t_cur * x : x;
    stage.linear = carried - scale * std::expm1(stage.hh) * history_[0].second;
    for (int j = 1; j < stage.order; ++j) {
      const double ratio = (history_[j].first - lambda) / h;
      if (std::isinf(ratio)) continue;  // pure noise, from which no difference reaches here
      stage.ratios.push_back(ratio);
      stage.differences.push_back(1 / ratio * (history_[j].second - history_[0].second));
    }
    return stage;
  }

  int order(const StepPosition& at) const {
    if (at.index + 1 < max_order_) return at.index + 1;
    return lower_order_final_ ? std::min(max_order_, at.count - at.index) : max_order_;
  }

  Expression<double> predict(const Stage& stage) const {
    // For order 2 the authors take 1/2, which keeps the order and does not depend on h.
    const auto rho = stage.order == 2 ? std::vector<double>{0.5} : unipc_weights(stage.ratios, stage.hh, variant_);
    auto x_pred = stage.linear;
    for (std::size_t j = 0; j < stage.ratios.size(); ++j) x_pred -= stage.scale_b * rho[j] * stage.differences[j];
    return x_pred;
  }

  Expression<double> correct(const Stage& stage, const Expression<double>& output) const {
    if (std::isinf(stage.scale_b)) return stage.linear;  // bh1's B(h) = h, from pure noise
    auto ratios = stage.ratios;
    ratios.push_back(1);
    const auto rho = stage.order == 1 ? std::vector<double>{0.5} : unipc_weights(ratios, stage.hh, variant_);
    auto x_next = stage.linear - stage.scale_b * rho.back() * (output - history_[0].second);
    for (std::size_t j = 0; j < stage.ratios.size(); ++j) x_next -= stage.scale_b * rho[j] * stage.differences[j];
    return x_next;
  }

  void push(double t, Expression<double> output) {
    history_.push_front({half_log_snr(clock_, t), std::move(output)});
    if (history_.size() > static_cast<std::size_t>(max_order_)) history_.pop_back();
  }

  int max_order_;
  bool predict_x0_, lower_order_final_;
  UnipcVariant variant_;
  Clock clock_;
  std::deque<std::pair<double, Expression<double>>> history_;  // (lambda, output), newest first
};

}  // namespace epd
