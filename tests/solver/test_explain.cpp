#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "epd/solver/explain.h"
#include "epd/solver/make_plan.h"

namespace epd {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

Plan<double> student_plan() {
  PredictorSpec spec;
  spec.num_steps = 3;
  spec.afs = Afs::kAnalytical;
  spec.parameters().scale_time = 0;
  spec.parameters().raw.assign(spec.num_parameters(), 0.0);
  return make_plan(spec, TimeSteps({64, 4, 0.25}));
}

TEST(ExplainTable, SaysEveryStepInALine) {
  const auto lines = lines_of(explain_table(student_plan()));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "step  t_cur  t_next  sigma given to the network  points  AFS  evals  NFE");
  EXPECT_EQ(lines[1], "   0     64       4  16, 16                      2       yes      2    1");
  EXPECT_EQ(lines[2], "   1      4    0.25  4 then 1, 1                 1 + 2   no       3    3");
  EXPECT_EQ(lines[3], "NFE (serial): 3, evaluations (total): 5");
}

TEST(ExplainTable, SaysThatNoiseIsDrawn) {
  PlanBuilder<double> plan;
  plan.begin_step({4, 1}, false);
  plan.grid_point(plan.denoise(plan.start() + 0.1 * plan.noise(), 4) + plan.noise());
  EXPECT_EQ(lines_of(explain_table(plan.plan())).back(),
            "NFE (serial): 1, evaluations (total): 1; noise is drawn 2 times after the start");
}

TEST(ExplainTable, CountsGuidanceTwice) {
  const auto lines = lines_of(explain_table(student_plan(), 2));
  EXPECT_THAT(lines[1], HasSubstr("yes      4    2"));
  EXPECT_THAT(lines[2], HasSubstr("no       6    6"));
  EXPECT_EQ(lines[3], "NFE (serial): 6, evaluations (total): 10; guidance counts every evaluation 2 times");
}

TEST(ExplainTable, SaysAStepWithoutEvaluations) {
  SolverOptions options;
  options.afs = Afs::kAnalytical;
  const auto lines = lines_of(explain_table(make_plan(options, TimeSteps({64, 4, 0.25}))));
  EXPECT_EQ(lines[1], "   0     64       4  -                           -       yes      0    0");
  EXPECT_EQ(lines[2], "   1      4    0.25  4                           1       no       1    1");
}

TEST(ExplainTable, ShowsSubStepsAsSteps) {
  const SolverOptions options{.kind = solver_kind("heun"), .max_order = {}, .inner_steps = 3};
  const auto lines = lines_of(explain_table(make_plan(options, TimeSteps({64, 4, 0.25}))));
  EXPECT_EQ(lines.size(), 1u + 4 + 1);
  EXPECT_EQ(lines.back(), "NFE (serial): 8, evaluations (total): 8");
}

TEST(ExplainTable, HasNoBlanksAtTheEndsOfLines) {
  for (const auto& line : lines_of(explain_table(student_plan()))) EXPECT_THAT(line, Not(testing::EndsWith(" ")));
}

}  // namespace
}  // namespace epd
