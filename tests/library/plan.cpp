// The plan of a solver, without LibTorch: how often it evaluates the network, and at which noise levels.
#include <iostream>

#include "epd/schedule/schedule.h"
#include "epd/solver/explain.h"
#include "epd/solver/make_plan.h"

int main() {
  const auto t = epd::make_time_steps({.kind = epd::ScheduleKind::kPolynomial, .rho = 7}, 6);
  const auto plan = epd::make_plan(epd::SolverOptions{.kind = epd::solver_kind("heun")}, t);
  std::cout << "NFE " << plan.nfe() << "\nnoise levels";
  for (const double sigma : t.values()) std::cout << ' ' << sigma;
  std::cout << '\n' << epd::explain_table(plan);
}
