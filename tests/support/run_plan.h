#pragma once

#include <cmath>
#include <cstddef>
#include <map>
#include <stdexcept>
#include <variant>
#include <vector>

#include "epd/solver/dual.h"
#include "epd/solver/plan.h"

namespace epd::testing {

/// What became of a plan that was run on plain numbers.
template <class S>
struct PlanRun {
  std::vector<std::vector<S>> grid;  // the state at every grid point
  int forwards = 0;                  // calls that stand one after the other
  int evaluations = 0;               // images that went through the network
  std::vector<double> sigmas;        // what it was told, one a evaluation

  const std::vector<S>& end() const { return grid.back(); }
};

/// Runs a plan for a start state of any number of coordinates; denoise(x, sigma) gives D(x; sigma) for such a state.
/// Reading a register before it was written throws. S is double, or Dual: then every number carries its gradient
/// forward, and what the plan marks as detached loses it. Noise is the same in every run: sin(2), sin(9), ...
template <class S, class Denoise>
PlanRun<S> run_plan(const Plan<S>& plan, const std::vector<S>& start, const Denoise& denoise) {
  using State = std::vector<S>;
  std::map<Register, State> registers{{0, start}};
  PlanRun<S> run;
  int draws = 0;
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<S>>(&instruction)) {
      State sum(start.size(), S(0));
      for (const auto& term : combine->sum.terms()) {
        const State& source = registers.at(term.source);
        for (std::size_t i = 0; i < sum.size(); ++i) {
          sum[i] += term.coefficient * (term.detached ? S(detached(source[i])) : source[i]);
        }
      }
      if (!registers.emplace(combine->target, std::move(sum)).second) throw std::logic_error("register written twice");
      continue;
    }
    if (const auto* draw = std::get_if<Draw>(&instruction)) {
      registers.emplace(draw->target, State(start.size(), S(std::sin(2.0 + 7 * draws++))));
      continue;
    }
    const auto& evaluate = std::get<Evaluate<S>>(instruction);
    run.forwards += 1;
    for (std::size_t k = 0; k < evaluate.states.size(); ++k) {
      run.evaluations += 1;
      run.sigmas.push_back(value_of(evaluate.sigmas[k]));
      State denoised = denoise(registers.at(evaluate.states[k]), evaluate.sigmas[k]);
      if (!registers.emplace(evaluate.denoised[k], std::move(denoised)).second) {
        throw std::logic_error("register written twice");
      }
    }
  }
  for (const Register r : plan.grid) run.grid.push_back(registers.at(r));
  return run;
}

}  // namespace epd::testing
