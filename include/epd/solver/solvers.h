#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "epd/core/names.h"
#include "epd/solver/deis.h"
#include "epd/solver/dpm2.h"
#include "epd/solver/dpmpp.h"
#include "epd/solver/euler.h"
#include "epd/solver/heun.h"
#include "epd/solver/ipndm.h"
#include "epd/solver/unipc.h"

namespace epd {

/// What programs, tests and documentation know of a classical solver.
struct SolverInfo {
  const char* name;           // of flags and files
  const char* paper_name;     // of headings
  std::array<int, 4> orders;  // of convergence, with max_order 1, 2, ... (0: no such); an only one is fixed
  int evaluations;            // serial, of one step
  std::array<std::string_view, 3> options;  // those of SolverOptions that not every solver knows, but max_order
  /// A fresh one, of options whose max_order is set where it is not fixed.
  std::unique_ptr<Solver> (*make)(const SolverOptions&);
};

template <class Method>
std::unique_ptr<Solver> make(const SolverOptions& options) {
  if constexpr (std::is_default_constructible_v<Method>) {
    return std::make_unique<Method>();
  } else {
    return std::make_unique<Method>(options);
  }
}

/// Every classical solver: teachers of distillation and baselines of a comparison. A new one is a header and a row.
/// The third order of dpmpp is as published (dpmpp.h), those of ipndm hold where all steps are equal, as its
/// coefficients are, and those of unipc are of Theorem 3.1.
inline constexpr SolverInfo kSolvers[]{
    {"euler", "Euler", {1}, 1, {"inner_steps"}, make<EulerSolver>},
    {"heun", "Heun", {2}, 2, {"inner_steps"}, make<HeunSolver>},
    {"dpm", "DPM-Solver-2", {2}, 2, {"inner_steps"}, make<Dpm2Solver>},
    {"dpmpp", "DPM-Solver++", {1, 2, 2}, 1, {"predict_x0", "lower_order_final"}, make<DpmppSolver>},
    {"ipndm", "iPNDM", {1, 2, 2, 2}, 1, {}, make<IpndmSolver>},
    {"unipc", "UniPC", {2, 3, 4}, 1, {"predict_x0", "lower_order_final", "unipc_variant"}, make<UnipcSolver>},
    {"deis", "DEIS", {1, 2, 3, 4}, 1, {"deis_mode"}, make<DeisSolver>},
};

/// Their names, for flags, files and messages.
inline constexpr auto kSolverNames = [] {
  NameTable<SolverKind, std::size(kSolvers)> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = {kSolvers[i].name, SolverKind{i}};
  return names;
}();
constexpr const auto& names_of(SolverKind) { return kSolverNames; }

constexpr const SolverInfo& info_of(SolverKind kind) { return kSolvers[static_cast<std::size_t>(kind)]; }

/// A solver that the code itself names; no such name, no program.
consteval SolverKind solver_kind(std::string_view name) {
  for (const auto& [candidate, kind] : kSolverNames) {
    if (name == candidate) return kind;
  }
  throw "no solver of this name";
}

/// The highest order that `max_order` can ask of the solver; 0 where the order is fixed.
constexpr int highest_order(SolverKind kind) {
  const auto& orders = info_of(kind).orders;
  return orders[1] == 0 ? 0 : static_cast<int>(orders.size()) - static_cast<int>(std::ranges::count(orders, 0));
}

constexpr bool knows(SolverKind kind, std::string_view option) {
  return std::ranges::find(info_of(kind).options, option) != info_of(kind).options.end();
}

/// The names of those that `belongs` chooses, such as "heun or dpm" with " or ".
std::string solver_names(const std::function<bool(SolverKind)>& belongs, const char* last_separator);
std::string solvers_that_know(std::string_view option, const char* last_separator);

}  // namespace epd
