#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "epd/core/model_facts.h"
#include "epd/files/json.h"
#include "epd/schedule/schedule.h"
#include "epd/solver/plan.h"

namespace epd {

/// A whole plan with its coefficients as JSON, for other engines and independent checks. exp/README.md, "Plan files",
/// describes the fields; numbers read back unchanged. It ends with its seal (epd/files/json.h).
std::string plan_json(const Plan<double>& plan, std::string_view solver, int cost_factor = 1, Clock clock = Clock::kEdm,
                      const Json& source = {});

/// A plan file, read.
struct PlanFile {
  Clock clock;         // what its times and noise levels are
  std::string solver;  // a name for people; may be empty
  TimeSteps times;     // of the grid
  Plan<double> plan;
};

/// Throws Error, one line with the file and the field, for whatever is no plan that can run: a register that is read
/// before it is written, written twice or out of range, a noise level that is not positive, counts that differ, an
/// unknown field, ...
PlanFile read_plan_file(const std::filesystem::path& path);

/// Whether the file says that it is a plan.
bool is_plan_file(const std::filesystem::path& path);

/// read_plan_file from the file's text; `where` names it in messages.
PlanFile parse_plan(std::string_view content, const std::string& where);

}  // namespace epd
