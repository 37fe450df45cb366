#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "epd/core/names.h"
#include "epd/solver/solver.h"

namespace epd {

/// UniPC's B(h): h itself (bh1) or e^h - 1 (bh2).
enum class UnipcVariant { kBh1, kBh2 };

inline constexpr NameTable<UnipcVariant, 2> kUnipcVariantNames{
    {{"bh1", UnipcVariant::kBh1}, {"bh2", UnipcVariant::kBh2}}};

/// The weights of UniP or UniC (UniPC, Theorem 3.1): the solution rho of R rho = b with R_ij = ratios_j^(i-1) and
/// b_i = i! phi_{i+1}(hh) hh / B(hh), for the signed step hh (-h in data form, h in noise form).
std::vector<double> unipc_weights(const std::vector<double>& ratios, double hh, UnipcVariant variant);

/// UniPC multistep, orders 1 to 3 (Zhao et al. 2023): a predictor (UniP), and a corrector (UniC) that uses the
/// evaluation at the predicted state, which serves the next step too: 1 evaluation a step. The last step, whose
/// prediction is not evaluated, has no corrector.
template <class S>
class UnipcSolver : public Solver<S> {
 public:
  static constexpr int kMaxOrder = 3;

  UnipcSolver(int max_order, bool predict_x0, bool lower_order_final, UnipcVariant variant)
      : max_order_(max_order), predict_x0_(predict_x0), lower_order_final_(lower_order_final), variant_(variant) {}

  Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) override {
    if (history_.empty()) push(at.t.cur, predict_x0_ ? denoised_at(plan, x, at) : direction_at(plan, x, at));
    const Stage stage = make_stage(x, at);
    const auto x_pred = predict(stage);
    if (at.is_last()) return x_pred;

    const auto x_state = plan.state(x_pred);
    const auto denoised = plan.denoise(x_state, S(at.t.next));
    const auto output = predict_x0_ ? denoised : (x_state - denoised) / S(at.t.next);
    const auto x_next = correct(stage, output);
    push(at.t.next, output);
    return x_next;
  }

 private:
  struct Stage {
    Expression<S> linear;                    // the exponential integrator of order 1
    std::vector<double> ratios;              // (lambda_{n-j} - lambda_n) / h, j = 1 .. order - 1
    std::vector<Expression<S>> differences;  // (m_{n-j} - m_n) / ratio_j
    double hh, scale_b;                      // signed step; B(hh), times t_next in noise form
  };

  Stage make_stage(const Expression<S>& x, const StepPosition& at) const {
    const double lambda = history_[0].first, h = -std::log(at.t.next) - lambda;
    Stage stage;
    stage.hh = predict_x0_ ? -h : h;
    const double scale = predict_x0_ ? 1 : at.t.next;
    stage.scale_b = scale * (variant_ == UnipcVariant::kBh1 ? stage.hh : std::expm1(stage.hh));
    const auto carried = predict_x0_ ? S(at.t.next / at.t.cur) * x : x;
    stage.linear = carried - S(scale * std::expm1(stage.hh)) * history_[0].second;
    for (int j = 1; j < order(at); ++j) {
      const double ratio = (history_[j].first - lambda) / h;
      stage.ratios.push_back(ratio);
      stage.differences.push_back(S(1 / ratio) * (history_[j].second - history_[0].second));
    }
    return stage;
  }

  int order(const StepPosition& at) const {
    if (at.index + 1 < max_order_) return at.index + 1;
    return lower_order_final_ ? std::min(max_order_, at.count - at.index) : max_order_;
  }

  Expression<S> predict(const Stage& stage) const {
    // For order 2 the authors take 1/2, which keeps the order and does not depend on h.
    const auto rho =
        stage.ratios.size() == 1 ? std::vector<double>{0.5} : unipc_weights(stage.ratios, stage.hh, variant_);
    auto x_pred = stage.linear;
    for (std::size_t j = 0; j < stage.ratios.size(); ++j) x_pred -= S(stage.scale_b * rho[j]) * stage.differences[j];
    return x_pred;
  }

  Expression<S> correct(const Stage& stage, const Expression<S>& output) const {
    auto ratios = stage.ratios;
    ratios.push_back(1);
    const auto rho = ratios.size() == 1 ? std::vector<double>{0.5} : unipc_weights(ratios, stage.hh, variant_);
    auto x_next = stage.linear - S(stage.scale_b * rho.back()) * (output - history_[0].second);
    for (std::size_t j = 0; j < stage.ratios.size(); ++j) x_next -= S(stage.scale_b * rho[j]) * stage.differences[j];
    return x_next;
  }

  void push(double t, Expression<S> output) {
    history_.push_front({-std::log(t), std::move(output)});
    if (history_.size() > static_cast<std::size_t>(max_order_)) history_.pop_back();
  }

  int max_order_;
  bool predict_x0_, lower_order_final_;
  UnipcVariant variant_;
  std::deque<std::pair<double, Expression<S>>> history_;  // (lambda, output), newest first
};

}  // namespace epd
