#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/run_plan.h"

// NFE and evaluations: the plan's counts, the formulas, and the calls that a denoiser counts.
namespace epd::testing {
namespace {

TimeSteps grid(int num_steps) { return make_time_steps({}, num_steps); }

PlanRun<double> run_of(const Plan<double>& plan) { return run_plan(plan, {1.0}, GaussianDenoiser{}); }

int analytical_steps(const Plan<double>& plan) {
  return static_cast<int>(
      std::count_if(plan.steps.begin(), plan.steps.end(), [](const auto& s) { return s.analytical; }));
}

TEST(Counts, OfEverySolverAreStepsTimesItsCostLessAfs) {
  for (const auto& [name, kind] : kSolverNames) {
    for (const int num_steps : {2, 3, 4, 7, 12}) {
      for (const bool afs : {false, true}) {
        for (int order = highest_order(kind) > 0 ? 1 : 0; order <= highest_order(kind); ++order) {
          SolverOptions options;
          options.kind = kind;
          options.afs = afs ? Afs::kAnalytical : Afs::kNo;
          if (order > 0) options.max_order = order;
          const auto plan = make_plan(options, grid(num_steps));
          const int expected = (num_steps - 1) * info_of(kind).evaluations - afs;
          const auto run = run_of(plan);
          SCOPED_TRACE(text(name, " order ", order, " N ", num_steps, " afs ", afs));
          EXPECT_EQ(plan.nfe(), expected);
          EXPECT_EQ(plan.evaluations(), expected);
          EXPECT_EQ(run.forwards, expected);
          EXPECT_EQ(run.evaluations, expected);
          EXPECT_EQ(plan.grid.size(), static_cast<std::size_t>(num_steps));
        }
      }
    }
  }
}

TEST(Counts, OfRefinedIntervalsAreOfAllSubSteps) {
  for (const auto& [name, kind] : kSolverNames) {
    if (!knows(kind, "inner_steps")) continue;
    for (const int inner_steps : {2, 3, 5}) {
      for (const bool afs : {false, true}) {
        const SolverOptions options{
            .kind = kind, .max_order = {}, .afs = afs ? Afs::kAnalytical : Afs::kNo, .inner_steps = inner_steps};
        const auto plan = make_plan(options, grid(4));
        EXPECT_EQ(plan.nfe(), 3 * (inner_steps - 1) * info_of(kind).evaluations - afs);
        EXPECT_EQ(run_of(plan).forwards, plan.nfe());
        EXPECT_EQ(plan.grid.size(), 4u);
        EXPECT_EQ(plan.steps.size(), 3u * (inner_steps - 1));
      }
    }
  }
}

TEST(Counts, OfStudentsTakeTheirPointsAsOneForward) {
  for (const auto kind : {StudentKind::kEpd, StudentKind::kIpndm}) {
    const char* name = name_of(kStudentNames, kind);
    for (const int num_steps : {2, 3, 6}) {
      for (int num_points = 1; num_points <= 4; ++num_points) {
        for (const bool afs : {false, true}) {
          PredictorSpec spec;
          spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
          spec.num_steps = num_steps;
          spec.num_points = num_points;
          spec.afs = afs ? Afs::kAnalytical : Afs::kNo;
          spec.parameters().raw.assign(spec.num_parameters(), 0.1);
          const auto plan = make_plan(spec, grid(num_steps));
          const auto run = run_of(plan);
          SCOPED_TRACE(text(name, " N ", num_steps, " K ", num_points, " afs ", afs));
          EXPECT_EQ(plan.nfe(), 2 * (num_steps - 1) - afs);
          EXPECT_EQ(plan.nfe(), student_nfe(spec));
          EXPECT_EQ(plan.evaluations(), (1 + num_points) * (num_steps - 1) - afs);
          EXPECT_EQ(run.forwards, plan.nfe());
          EXPECT_EQ(run.evaluations, plan.evaluations());
        }
      }
    }
  }
}

TEST(Afs, ReplacesTheFirstEvaluationOnly) {
  for (const auto& [name, kind] : kSolverNames) {
    SolverOptions options;
    options.kind = kind;
    auto sigmas = run_of(make_plan(options, grid(5))).sigmas;
    options.afs = Afs::kAnalytical;
    const auto plan = make_plan(options, grid(5));
    sigmas.erase(sigmas.begin());
    EXPECT_EQ(run_of(plan).sigmas, sigmas) << name;
    EXPECT_EQ(analytical_steps(plan), 1) << name;
    EXPECT_TRUE(plan.steps[0].analytical) << name;
  }
}

TEST(Afs, ReplacesTheFirstEvaluationOnlyInRefinedIntervalsToo) {
  SolverOptions options{.kind = solver_kind("heun"), .max_order = {}, .inner_steps = 3};
  auto sigmas = run_of(make_plan(options, grid(4))).sigmas;
  options.afs = Afs::kAnalytical;
  const auto plan = make_plan(options, grid(4));
  sigmas.erase(sigmas.begin());
  EXPECT_EQ(run_of(plan).sigmas, sigmas);
  EXPECT_EQ(analytical_steps(plan), 1);
}

TEST(Afs, IsTheDirectionOfUnitVarianceData) {
  const SolverOptions options{.kind = solver_kind("euler"), .max_order = {}, .afs = Afs::kAnalytical};
  const auto run = run_of(make_plan(options, TimeSteps({80, 10})));
  EXPECT_NEAR(run.end()[0], 1 + (10 - 80) / std::sqrt(1 + 80.0 * 80.0), 1e-15);
}

TEST(PlanSteps, TileTheInstructionsAndTheIntervals) {
  for (const auto& [name, kind] : kSolverNames) {
    SolverOptions options;
    options.kind = kind;
    const auto t = grid(6);
    const auto plan = make_plan(options, t);
    std::size_t next = 0;
    for (std::size_t n = 0; n < plan.steps.size(); ++n) {
      EXPECT_EQ(plan.steps[n].first, next) << name;
      next = plan.steps[n].last;
      EXPECT_EQ(plan.steps[n].t.cur, t[n]) << name;
      EXPECT_EQ(plan.steps[n].t.next, t[n + 1]) << name;
    }
    EXPECT_EQ(next, plan.instructions.size()) << name;
  }
}

TEST(SolverOptions, ThatCannotBeAreUsageErrors) {
  const auto refused = [](SolverOptions options) { EXPECT_THROW(options.validated(), UsageError); };
  refused({.kind = solver_kind("euler"), .max_order = 1});
  refused({.kind = solver_kind("heun"), .max_order = 2});
  for (const auto& [name, kind] : kSolverNames) {
    if (highest_order(kind) == 0) continue;
    refused({.kind = kind, .max_order = 0});
    refused({.kind = kind, .max_order = highest_order(kind) + 1});
    refused({.kind = kind, .max_order = {}, .inner_steps = 3});
  }
  refused({.kind = solver_kind("heun"), .max_order = {}, .inner_steps = 1});
  refused({.kind = solver_kind("heun"), .max_order = {}, .inner_steps = 1001});
}

TEST(Student, ForAnotherGridIsRefused) {
  PredictorSpec spec;
  spec.parameters().raw.assign(spec.num_parameters(), 0.0);
  EXPECT_NO_THROW(make_plan(spec, grid(4)));
  EXPECT_THROW(make_plan(spec, grid(3)), Error);
  EXPECT_THROW(make_plan(spec, grid(5)), Error);
}

}  // namespace
}  // namespace epd::testing
