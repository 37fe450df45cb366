#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "epd/core/error.h"
#include "epd/schedule/schedule.h"
#include "epd/solver/expression.h"

namespace epd {

/// target = sum_i c_i r_i.
template <class S>
struct Combine {
  Register target;
  Expression<S> sum;
};

/// denoised[k] = D(states[k]; sigmas[k]) for all k in one forward: the parallel points of a step.
template <class S>
struct Evaluate {
  std::vector<Register> states;
  std::vector<S> sigmas;
  std::vector<Register> denoised;
};

/// target = unit Gaussian noise, in every image other: the next draw of the image's own stream, whose first is the
/// start.
struct Draw {
  Register target;
};

template <class S>
using Instruction = std::variant<Combine<S>, Evaluate<S>, Draw>;

/// What one solver step contributed: its interval and its slice of the plan's instructions.
struct PlanStep {
  Interval t;
  bool analytical = false;          // its first denoised image costs no evaluation (AFS)
  std::size_t first = 0, last = 0;  // instructions [first, last)
};

/// A solver's whole run as a straight-line program of three instructions. Register 0 is the start state x(t_0);
/// grid[n] is the register of the state at the n-th point of the time grid. A step of Euler's method from 8 to 2,
///   PlanBuilder<double> plan;
///   const auto x = plan.start();
///   const auto d_cur = (x - plan.denoise(x, 8)) / 8;
///   plan.grid_point(x + (2 - 8) * d_cur);
/// is r1 = D(r0; 8), r2 = 0.25 r0 + 0.75 r1 with grid {0, 2} and nfe() 1.
template <class S>
struct Plan {
  std::vector<Instruction<S>> instructions;
  std::vector<PlanStep> steps;
  std::vector<Register> grid{0};
  std::optional<Register> mean;  // filled with the mean of the data from the start, where the plan needs it
  int num_registers = 1;

  /// Serial network evaluations: the points of one Evaluate run as one.
  int nfe() const {
    return count([](const Evaluate<S>&) { return 1; });
  }
  /// All network evaluations, parallel points counted singly.
  int evaluations() const {
    return count([](const Evaluate<S>& evaluate) { return static_cast<int>(evaluate.states.size()); });
  }
  /// How often it draws noise after the start; 0 for an ODE's solver.
  int draws() const {
    return static_cast<int>(std::ranges::count_if(
        instructions, [](const auto& instruction) { return std::holds_alternative<Draw>(instruction); }));
  }

 private:
  template <class Cost>
  int count(Cost cost) const {
    int total = 0;
    for (const auto& instruction : instructions) {
      if (const auto* evaluate = std::get_if<Evaluate<S>>(&instruction)) total += cost(*evaluate);
    }
    return total;
  }
};

/// Writes a plan: solvers ask it for denoised images and hand it the states at the grid points.
template <class S>
class PlanBuilder {
 public:
  const Plan<S>& plan() const { return plan_; }

  Expression<S> start() const { return Expression<S>(0); }

  /// The mean of the data.
  Expression<S> mean() {
    if (!plan_.mean) plan_.mean = plan_.num_registers++;
    return Expression<S>(*plan_.mean);
  }

  /// Fresh unit Gaussian noise.
  Expression<S> noise() {
    emit(Draw{plan_.num_registers});
    return Expression<S>(plan_.num_registers++);
  }

  void begin_step(Interval t, bool analytical) {
    plan_.steps.push_back({t, analytical, plan_.instructions.size(), plan_.instructions.size()});
  }

  /// D(states[k]; sigmas[k]) for every k, in one forward.
  std::vector<Expression<S>> denoise(const std::vector<Expression<S>>& states, const std::vector<S>& sigmas) {
    EPD_ASSERT(!states.empty() && states.size() == sigmas.size(), "a forward of ", states.size(), " states and ",
               sigmas.size(), " noise levels");
    Evaluate<S> evaluate;
    evaluate.sigmas = sigmas;
    for (const auto& state : states) evaluate.states.push_back(materialise(state));
    std::vector<Expression<S>> result;
    for (std::size_t k = 0; k < states.size(); ++k) {
      evaluate.denoised.push_back(plan_.num_registers++);
      result.emplace_back(evaluate.denoised.back());
    }
    emit(std::move(evaluate));
    return result;
  }

  Expression<S> denoise(const Expression<S>& state, const S& sigma) {
    return denoise(std::vector<Expression<S>>{state}, std::vector<S>{sigma}).front();
  }

  /// The expression as one register, so that what follows builds on it and not on the whole past.
  Expression<S> state(const Expression<S>& x) { return Expression<S>(materialise(x)); }

  /// The state at the next point of the time grid.
  Expression<S> grid_point(const Expression<S>& x) {
    plan_.grid.push_back(materialise(x));
    return Expression<S>(plan_.grid.back());
  }

 private:
  Register materialise(const Expression<S>& x) {
    if (const auto same = x.as_register()) return *same;
    emit(Combine<S>{plan_.num_registers, x.without_zeros()});
    return plan_.num_registers++;
  }

  void emit(Instruction<S> instruction) {
    plan_.instructions.push_back(std::move(instruction));
    if (!plan_.steps.empty()) plan_.steps.back().last = plan_.instructions.size();
  }

  Plan<S> plan_;
};

}  // namespace epd
