#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "epd/core/error.h"
#include "epd/schedule/schedule.h"

namespace epd {
namespace {

using testing::HasSubstr;

constexpr ScheduleKind kEveryRange[] = {ScheduleKind::kPolynomial, ScheduleKind::kLogSnr, ScheduleKind::kTimeUniform};

ScheduleOptions options_of(ScheduleKind kind, double rho = 7) { return {kind, rho, 0.002, 80}; }

std::string usage_error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no usage error";
}

TEST(Schedule, EndsAreTheRangeItself) {
  for (const auto kind : kEveryRange) {
    for (const double rho : {0.5, 1.0, 7.0}) {
      for (const int n : {2, 3, 50, 1000}) {
        const auto t = make_time_steps(options_of(kind, rho), n);
        EXPECT_EQ(t.size(), static_cast<std::size_t>(n));
        EXPECT_EQ(t[0], 80);
        EXPECT_EQ(t[t.size() - 1], 0.002);
      }
    }
  }
}

TEST(Schedule, PolynomialWithRhoOneIsUniformInT) {
  const auto t = make_time_steps(options_of(ScheduleKind::kPolynomial, 1), 5);
  for (std::size_t i = 0; i + 1 < t.size(); ++i) EXPECT_NEAR(t[i] - t[i + 1], (80 - 0.002) / 4, 1e-12);
}

TEST(Schedule, PolynomialIsUniformInTheRhothRoot) {
  const auto t = make_time_steps(options_of(ScheduleKind::kPolynomial, 7), 3);
  EXPECT_NEAR(std::pow(t[1], 1.0 / 7), (std::pow(80, 1.0 / 7) + std::pow(0.002, 1.0 / 7)) / 2, 1e-14);
}

TEST(Schedule, LogSnrIsGeometric) {
  const auto t = make_time_steps(options_of(ScheduleKind::kLogSnr), 6);
  for (std::size_t i = 0; i + 1 < t.size(); ++i) EXPECT_NEAR(t[i + 1] / t[i], std::pow(0.002 / 80, 0.2), 1e-14);
}

TEST(Schedule, TimeUniformIsUniformInTheTimeOfItsVpClock) {
  const auto t = make_time_steps(options_of(ScheduleKind::kTimeUniform, 1), 4);
  // ln(1 + t^2) = beta_d u^2 / 2 + beta_min u through both ends at u = 1e-3 and u = 1.
  const double low = std::log(1 + 0.002 * 0.002), high = std::log(1 + 80.0 * 80.0);
  const double beta_d = 2 * (low / 1e-3 - high) / (1e-3 - 1), beta_min = high - beta_d / 2;
  for (std::size_t i = 0; i < t.size(); ++i) {
    const double u = 1 + i / 3.0 * (1e-3 - 1);
    EXPECT_NEAR(std::log1p(t[i] * t[i]) / (beta_d * u * u / 2 + beta_min * u), 1, 1e-9) << i;
  }
}

TEST(Schedule, TimeUniformSpansEveryUsualRange) {
  for (const double low : {1e-4, 0.002, 0.01, 0.0388, 0.1}) {
    auto options = options_of(ScheduleKind::kTimeUniform, 1);
    options.sigma_min = low;
    EXPECT_EQ(make_time_steps(options, 10).values().back(), low);
  }
}

TEST(Schedule, TimeUniformOverARangeWithoutAClockIsAUsageError) {
  auto options = options_of(ScheduleKind::kTimeUniform, 1);
  options.sigma_min = 1;
  EXPECT_THAT(usage_error_of([&] { make_time_steps(options, 4); }), HasSubstr("lower sigma_min"));
}

TEST(Schedule, DiscreteRunsOnTheModelsClock) {
  const VpSigmaMap map(19.9, 0.1);
  ScheduleOptions options{ScheduleKind::kDiscrete, 1, map.sigma(1e-3), map.sigma(1)};
  const auto t = make_time_steps(options, 4, &map);
  EXPECT_EQ(t[0], options.sigma_max);
  EXPECT_EQ(t[3], options.sigma_min);
  EXPECT_NEAR(map.u(t[1]), 1 + (1e-3 - 1) / 3, 1e-13);
}

TEST(Schedule, DiscreteTakesNoRootOfItsFirstTimeAsPublished) {
  const VpSigmaMap map(19.9, 0.1);
  const ScheduleOptions options{ScheduleKind::kDiscrete, 2, map.sigma(0.01), map.sigma(0.81)};
  const auto t = make_time_steps(options, 3, &map);
  EXPECT_NEAR(map.u(t[0]), 0.81 * 0.81, 1e-13);
  EXPECT_NEAR(map.u(t[1]), std::pow((0.81 + 0.1) / 2, 2), 1e-13);
}

TEST(Schedule, DiscreteWithoutANoiseTableIsAUsageError) {
  EXPECT_THAT(usage_error_of([] { make_time_steps(options_of(ScheduleKind::kDiscrete), 4); }),
              HasSubstr("needs a model with a noise table"));
}

TEST(Schedule, ImpossibleOptionsAreUsageErrorsThatNameThem) {
  for (const int n : {-1, 0, 1, 1001}) {
    EXPECT_THAT(usage_error_of([&] { make_time_steps(options_of(ScheduleKind::kPolynomial), n); }),
                HasSubstr("num_steps: expected 2 to 1000"));
  }
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (const double rho : {0.0, -1.0, nan, infinity}) {
    EXPECT_THAT(usage_error_of([&] { make_time_steps(options_of(ScheduleKind::kPolynomial, rho), 4); }),
                HasSubstr("schedule_rho"));
  }
  for (const auto& [low, high] :
       {std::pair{0.0, 80.0}, {-1.0, 80.0}, {80.0, 80.0}, {81.0, 80.0}, {nan, 80.0}, {0.002, infinity}, {0.002, nan}}) {
    const ScheduleOptions options{ScheduleKind::kLogSnr, 7, low, high};
    EXPECT_THAT(usage_error_of([&] { make_time_steps(options, 4); }), HasSubstr("sigma range")) << low << " " << high;
  }
}

TEST(Schedule, FlowMatchShiftsUniformTimesAndEndsAtZero) {
  const auto t = make_time_steps({ScheduleKind::kFlowMatch, 3, 0.25, 1}, 5);
  const double s[]{1, 0.75, 0.5, 0.25};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_DOUBLE_EQ(t[i], 3 * s[i] / (1 + 2 * s[i]));
  EXPECT_EQ(t[0], 1);
  EXPECT_EQ(t[4], 0);
  for (const double shift : {0.3, 1.0, 1.15, 7.7}) {
    EXPECT_EQ(make_time_steps({ScheduleKind::kFlowMatch, shift, 1e-3, 1}, 9)[0], 1);
    EXPECT_EQ(make_time_steps({ScheduleKind::kFlowMatch, shift, 1e-3, 1}, 2).values(), (std::vector<double>{1, 0}));
  }
  EXPECT_THAT(usage_error_of([] { make_time_steps(options_of(ScheduleKind::kFlowMatch), 4); }),
              HasSubstr("flow models"));
}

TEST(Schedule, TagsNameRunFolders) {
  EXPECT_EQ(schedule_tag(options_of(ScheduleKind::kPolynomial, 7)), "poly7");
  EXPECT_EQ(schedule_tag(options_of(ScheduleKind::kTimeUniform, 1)), "uni1.0");
  EXPECT_EQ(schedule_tag(options_of(ScheduleKind::kLogSnr)), "logsnr");
  EXPECT_EQ(schedule_tag(options_of(ScheduleKind::kDiscrete)), "discrete");
  EXPECT_EQ(schedule_tag(options_of(ScheduleKind::kFlowMatch, 3)), "flowmatch3");
}

TEST(TimeSteps, AreBuiltValidOrNotAtAll) {
  EXPECT_NO_THROW(TimeSteps({2, 1}));
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (const auto& bad : std::vector<std::vector<double>>{
           {}, {1}, {1, 1}, {1, 2}, {2, 0}, {2, -1}, {nan, 1}, {2, nan}, {infinity, 1}, {3, 1, 2}}) {
    EXPECT_THROW(TimeSteps{bad}, Error) << testing::PrintToString(bad);
  }
}

TEST(TimeSteps, EndAtZeroOnRequestAlone) {
  constexpr auto kMayBeZero = TimeSteps::Last::kMayBeZero;
  EXPECT_EQ(TimeSteps({2, 0}, kMayBeZero)[1], 0);
  for (const auto& bad : std::vector<std::vector<double>>{{0}, {0, 0}, {2, 0, 0}, {2, 0, -1}, {2, -0.5}}) {
    EXPECT_THROW(TimeSteps(bad, kMayBeZero), Error) << testing::PrintToString(bad);
  }
}

TEST(TimeSteps, IntervalsJoinNeighbours) {
  const TimeSteps t({4, 2, 1});
  EXPECT_EQ(t.num_intervals(), 2u);
  EXPECT_EQ(t.interval(1).cur, 2);
  EXPECT_EQ(t.interval(1).next, 1);
  EXPECT_EQ(t.interval(0).dt(), -2);
}

}  // namespace
}  // namespace epd
