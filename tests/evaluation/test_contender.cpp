#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "epd/evaluation/contender.h"
#include "epd/evaluation/report.h"
#include "support/test_files.h"

namespace epd {
namespace {

using ::testing::HasSubstr;

Contender polynomial(const std::string& whole, int nfe) {
  return read_contender(whole, nfe, ScheduleKind::kPolynomial);
}

TEST(Contender, IsASolverItsOrderAndItsSchedule) {
  const auto plain = polynomial("dpmpp", 5);
  EXPECT_EQ(plain.name, "dpmpp(3)");
  EXPECT_EQ(plain.method.schedule_type, ScheduleKind::kPolynomial);
  EXPECT_EQ(plain.method.schedule_rho, 7);
  const auto all = polynomial("dpmpp:2@time_uniform", 5);
  EXPECT_EQ(all.name, "dpmpp(2)");
  EXPECT_EQ(all.method.max_order, 2);
  EXPECT_EQ(all.method.schedule_type, ScheduleKind::kTimeUniform);
  EXPECT_EQ(all.method.schedule_rho, 1);
  EXPECT_EQ(polynomial("euler@logsnr", 5).name, "euler");
  EXPECT_EQ(polynomial("dpmpp:2@time_uniform:0.7", 5).method.schedule_rho, 0.7);
}

TEST(Contender, SpendsTheEvaluationsThatItWasGiven) {
  for (const char* solver : {"euler", "dpmpp", "ipndm", "unipc", "deis", "heun", "dpm"}) {
    for (const int nfe : {2, 3, 5, 8}) {
      const auto method = make_method(polynomial(solver, nfe).method, std::nullopt, ModelFacts{});
      EXPECT_EQ(method.nfe(), nfe) << solver;
      const bool two_a_step = std::string(solver) == "heun" || std::string(solver) == "dpm";
      EXPECT_EQ(polynomial(solver, nfe).method.afs == Afs::kAnalytical, two_a_step && nfe % 2 == 1) << solver;
    }
  }
}

TEST(Contender, MayBeginWithTheMeanOfTheData) {
  for (const char* solver : {"dpmpp:2+mean@logsnr", "ipndm+mean", "heun+mean"}) {
    const auto contender = polynomial(solver, 5);
    EXPECT_TRUE(contender.name.ends_with("+mean")) << contender.name;
    const auto method = make_method(contender.method, std::nullopt, ModelFacts{});
    EXPECT_EQ(method.nfe(), 5) << solver;
    EXPECT_EQ(method.plan.mean, 1) << solver;
  }
  EXPECT_EQ(polynomial("dpmpp:2+mean", 5).name, "dpmpp(2)+mean");
}

TEST(Contender, ThatCannotBeIsRefusedByName) {
  const auto refusal = [](const std::string& whole, int nfe) {
    return test::error_of([&] { polynomial(whole, nfe); });
  };
  EXPECT_THAT(refusal("amed", 5), HasSubstr("amed"));
  EXPECT_THAT(refusal("dpmpp:x", 5), HasSubstr("dpmpp:x"));
  EXPECT_THAT(refusal("dpmpp:2@karras", 5), HasSubstr("karras"));
  EXPECT_THAT(refusal("dpmpp:2@time_uniform:x", 5), HasSubstr("dpmpp:2@time_uniform:x"));
  EXPECT_THAT(refusal("euler", 0), HasSubstr("nfe"));
  EXPECT_THAT(refusal("heun+mean", 4), HasSubstr("an odd number"));
  EXPECT_THAT(refusal("heun", -1), HasSubstr("nfe"));
}

TEST(Contender, APredictorMayHaveAName) {
  EXPECT_EQ(predictor_contender("exp/2=ours").name, "ours");
  EXPECT_EQ(predictor_contender("exp/2=ours").method.predictor_path, "exp/2");
  EXPECT_EQ(predictor_contender("2").name, "");
}

TEST(Report, HasExactlyTheseFieldsAndNoNumberWhereThereIsNone) {
  CompareRow row{"euler", "polynomial 7", 5, 5, 0.25, 3, std::numeric_limits<double>::quiet_NaN(), 12};
  const auto json = nlohmann::json::parse(comparison_json({row, row}));
  EXPECT_EQ(json.size(), 1U);
  ASSERT_EQ(json.at("rows").size(), 2U);
  const nlohmann::json expected = {{"solver", "euler"},  {"schedule", "polynomial 7"},
                                   {"nfe", 5},           {"evaluations", 5},
                                   {"rmse", 0.25},       {"fd_exact", 3},
                                   {"fd_data", nullptr}, {"images_per_second", 12}};
  EXPECT_EQ(json.at("rows")[0], expected);
  EXPECT_THAT(comparison_table({row}), HasSubstr("| euler  | polynomial 7 |   5 |           5 | 0.2500 |"));
}

}  // namespace
}  // namespace epd
