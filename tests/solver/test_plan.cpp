#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>
#include <vector>

#include "epd/solver/plan.h"
#include "support/run_plan.h"

namespace epd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(Expression, AddsUpTheCoefficientsOfEachRegister) {
  const Expression<double> a(3), b(5);
  const auto sum = 2.0 * (a - b) / 4.0 + 0.25 * a;
  ASSERT_THAT(sum.terms(), SizeIs(2));
  EXPECT_EQ(sum.terms()[0].source, 3);
  EXPECT_EQ(sum.terms()[0].coefficient, 0.75);
  EXPECT_EQ(sum.terms()[1].coefficient, -0.5);
}

TEST(Expression, IsARegisterOnlyUnchanged) {
  const Expression<double> a(3);
  EXPECT_EQ(a.as_register(), 3);
  EXPECT_EQ((0.5 * (a + a)).as_register(), 3);
  EXPECT_EQ((2.0 * a).as_register(), std::nullopt);
  EXPECT_EQ((a + Expression<double>(4)).as_register(), std::nullopt);
  EXPECT_EQ(detached(a).as_register(), std::nullopt);
  EXPECT_EQ(Expression<double>().as_register(), std::nullopt);
  const auto learned = Dual::parameter(1, 0, 1) * Expression<Dual>(3);  // 1 now, another number later
  EXPECT_EQ(learned.as_register(), std::nullopt);
}

TEST(Expression, KeepsDetachedTermsApart) {
  const Expression<Dual> a(3);
  const auto sum = a + Dual::parameter(2, 0, 1) * detached(Dual::parameter(5, 0, 1) * a);
  ASSERT_THAT(sum.terms(), SizeIs(2));
  EXPECT_FALSE(sum.terms()[0].detached);
  EXPECT_TRUE(sum.terms()[1].detached);
  // The detached factor is a constant; what it is multiplied by afterwards learns.
  EXPECT_EQ(sum.terms()[1].coefficient.value(), 10);
  EXPECT_THAT(sum.terms()[1].coefficient.gradient(), ElementsAre(5));
}

TEST(Expression, DropsOnlyTheZerosThatStayZero) {
  const Expression<Dual> a(1), b(2), c(3);
  const auto sum = a + Dual(0) * b + Dual::parameter(0, 0, 1) * c;
  EXPECT_THAT(sum.without_zeros().terms(), SizeIs(2));
  EXPECT_THAT((Expression<double>(1) + 0.0 * Expression<double>(2)).without_zeros().terms(), SizeIs(1));
}

TEST(PlanBuilder, WritesARegisterOnceAndUsesItAgain) {
  PlanBuilder<double> plan;
  const auto x = plan.start();
  const auto d = plan.denoise(x, 2.0);  // the start is a register already
  const auto y = plan.state(x + d);
  EXPECT_EQ(plan.state(y).as_register(), y.as_register());
  plan.grid_point(y);
  plan.denoise(y, 1.0);
  EXPECT_THAT(plan.plan().instructions, SizeIs(3));  // evaluate, combine, evaluate
  EXPECT_EQ(plan.plan().num_registers, 4);
  EXPECT_THAT(plan.plan().grid, ElementsAre(0, y.as_register()));
}

TEST(PlanBuilder, PutsParallelPointsIntoOneForward) {
  PlanBuilder<double> plan;
  const auto x = plan.start();
  const auto denoised = plan.denoise({x, 2.0 * x, 3.0 * x}, {1.0, 2.0, 3.0});
  ASSERT_THAT(denoised, SizeIs(3));
  EXPECT_EQ(plan.plan().nfe(), 1);
  EXPECT_EQ(plan.plan().evaluations(), 3);
  plan.grid_point(denoised[2]);
  const auto run = run_plan(plan.plan(), {5.0}, [](const std::vector<double>& at, double sigma) {
    return std::vector<double>{at[0] * 100 + sigma};
  });
  EXPECT_EQ(run.end()[0], 1503);
}

TEST(PlanBuilder, RefusesPointsWithoutTheirNoiseLevels) {
  PlanBuilder<double> plan;
  const auto x = plan.start();
  EXPECT_THROW(plan.denoise({x, x}, {1.0}), Error);
  EXPECT_THROW(plan.denoise(std::vector<Expression<double>>{}, {}), Error);
}

TEST(PlanBuilder, CountsInstructionsByStep) {
  PlanBuilder<double> plan;
  plan.begin_step({4, 2}, true);
  auto x = plan.grid_point(0.5 * plan.start());
  plan.begin_step({2, 1}, false);
  x = plan.grid_point(x + plan.denoise(x, 2.0));
  const auto& steps = plan.plan().steps;
  ASSERT_THAT(steps, SizeIs(2));
  EXPECT_EQ(steps[0].first, 0u);
  EXPECT_EQ(steps[0].last, 1u);
  EXPECT_EQ(steps[1].last, 3u);
  EXPECT_TRUE(steps[0].analytical);
  EXPECT_FALSE(steps[1].analytical);
}

}  // namespace
}  // namespace epd::testing
