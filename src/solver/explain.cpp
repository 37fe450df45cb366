#include "epd/solver/explain.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iomanip>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::size_t kNumColumns = 8;
using Row = std::array<std::string, kNumColumns>;

/// Numbers are aligned to the right, lists and words to the left.
constexpr std::array<bool, kNumColumns> kRightAligned{true, true, true, false, false, false, true, true};

std::string short_number(double value) { return text(std::setprecision(5), value); }

/// The forwards of one step.
struct StepWork {
  std::string sigmas, points;
  int nfe = 0, evaluations = 0;
};

StepWork work_of(const Plan<double>& plan, const PlanStep& step) {
  StepWork work;
  for (std::size_t i = step.first; i < step.last; ++i) {
    const auto* evaluate = std::get_if<Evaluate<double>>(&plan.instructions[i]);
    if (evaluate == nullptr) continue;
    if (work.nfe > 0) {
      work.sigmas += " then ";
      work.points += " + ";
    }
    for (std::size_t k = 0; k < evaluate->sigmas.size(); ++k) {
      work.sigmas += (k > 0 ? ", " : "") + short_number(evaluate->sigmas[k]);
    }
    work.points += std::to_string(evaluate->states.size());
    work.nfe += 1;
    work.evaluations += static_cast<int>(evaluate->states.size());
  }
  if (work.nfe == 0) work.sigmas = work.points = "-";
  return work;
}

std::string layout(const std::vector<Row>& rows) {
  std::array<std::size_t, kNumColumns> widths{};
  for (const Row& row : rows) {
    for (std::size_t c = 0; c < kNumColumns; ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string table;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < kNumColumns; ++c) {
      const std::string padding(widths[c] - row[c].size(), ' ');
      line += (c > 0 ? "  " : "") + (kRightAligned[c] ? padding + row[c] : row[c] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    table += line + "\n";
  }
  return table;
}

}  // namespace

std::string explain_table(const Plan<double>& plan, int cost_factor) {
  std::vector<Row> rows{{"step", "t_cur", "t_next", "sigma given to the network", "points", "AFS", "evals", "NFE"}};
  int nfe = 0;
  for (std::size_t n = 0; n < plan.steps.size(); ++n) {
    const PlanStep& step = plan.steps[n];
    const StepWork work = work_of(plan, step);
    nfe += work.nfe * cost_factor;
    rows.push_back({std::to_string(n), short_number(step.t.cur), short_number(step.t.next), work.sigmas, work.points,
                    step.analytical ? (plan.mean ? "mean" : "yes") : "no",
                    std::to_string(work.evaluations * cost_factor), std::to_string(nfe)});
  }
  const auto guidance = cost_factor == 1 ? "" : text("; guidance counts every evaluation ", cost_factor, " times");
  const auto noise = plan.draws() == 0 ? "" : text("; noise is drawn ", plan.draws(), " times after the start");
  return text(layout(rows), "NFE (serial): ", plan.nfe() * cost_factor,
              ", evaluations (total): ", plan.evaluations() * cost_factor, guidance, noise, "\n");
}

}  // namespace epd
