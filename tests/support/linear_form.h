#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <variant>
#include <vector>

#include "epd/solver/plan.h"

namespace epd::testing {

/// A plan with its registers eliminated: every state as a weighted sum of the start state and of the network's outputs
/// D_0, D_1, ... in the order of their evaluation. Two plans with the same linear form are the same method, whatever
/// the network is. An evaluation of a state and noise level that were evaluated before counts as that one.
struct LinearForm {
  using Row = std::vector<double>;  // coefficients of [x(t_0), D_0, D_1, ...]
  std::vector<double> sigmas;
  std::vector<Row> states;  // what each D_i is evaluated at
  std::vector<Row> grid;
};

/// The largest difference of two rows, relative to the largest coefficient.
inline double row_distance(const LinearForm::Row& a, const LinearForm::Row& b) {
  const auto at = [](const LinearForm::Row& row, std::size_t i) { return i < row.size() ? row[i] : 0; };
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    difference = std::max(difference, std::abs(at(a, i) - at(b, i)));
    largest = std::max({largest, std::abs(at(a, i)), std::abs(at(b, i))});
  }
  return difference / largest;
}

inline LinearForm linear_form(const Plan<double>& plan) {
  LinearForm form;
  std::map<Register, LinearForm::Row> rows{{0, {1}}};
  const auto symbol_of = [&](const LinearForm::Row& state, double sigma) {
    for (std::size_t i = 0; i < form.states.size(); ++i) {
      if (form.sigmas[i] == sigma && row_distance(form.states[i], state) < 1e-15) return i;
    }
    form.states.push_back(state);
    form.sigmas.push_back(sigma);
    return form.states.size() - 1;
  };
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<double>>(&instruction)) {
      LinearForm::Row sum;
      for (const auto& term : combine->sum.terms()) {
        const auto& source = rows.at(term.source);
        sum.resize(std::max(sum.size(), source.size()));
        for (std::size_t i = 0; i < source.size(); ++i) sum[i] += term.coefficient * source[i];
      }
      rows[combine->target] = sum;
      continue;
    }
    const auto& evaluate = std::get<Evaluate<double>>(instruction);
    for (std::size_t k = 0; k < evaluate.states.size(); ++k) {
      const std::size_t symbol = symbol_of(rows.at(evaluate.states[k]), evaluate.sigmas[k]);
      LinearForm::Row row(symbol + 2);
      row[symbol + 1] = 1;
      rows[evaluate.denoised[k]] = row;
    }
  }
  for (const Register r : plan.grid) form.grid.push_back(rows.at(r));
  return form;
}

}  // namespace epd::testing
