#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "epd/documents/predictor_json.h"
#include "epd/documents/run_dir.h"
#include "epd/solver/make_plan.h"
#include "support/golden_solvers.h"

// The 32 predictors under exp/ against the values that the published code makes of them.
namespace epd::testing {
namespace {

using nlohmann::json;

const std::filesystem::path kExp = std::filesystem::path(EPD_SOURCE_DIR) / "exp";

/// Every published predictor with its golden, found by its experiment number.
template <class Check>
void for_each_predictor(const Check& check) {
  const auto cases = golden_cases("predictors");
  ASSERT_EQ(cases.size(), 32u);
  for (const json& golden : cases) {
    const std::string name = golden.at("name");
    const auto path = find_predictor(std::to_string(std::stoi(name.substr(0, 5))), {kExp});
    EXPECT_EQ(path.parent_path().filename(), name);
    SCOPED_TRACE(name);
    check(read_predictor(path), golden);
  }
}

void expect_near(const std::vector<double>& values, const json& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t k = 0; k < values.size(); ++k) EXPECT_NEAR(values[k], expected[k].get<double>(), 1e-12);
}

TEST(PublishedPredictors, GiveThePublishedCoefficients) {
  for_each_predictor([](const PredictorSpec& spec, const json& golden) {
    const auto table = epd_table(spec, spec.parameters().raw);
    ASSERT_EQ(table.size(), golden.at("r").size());
    for (std::size_t n = 0; n < table.size(); ++n) {
      expect_near(table[n].r, golden.at("r")[n]);
      expect_near(table[n].weight, golden.at("weight")[n]);
      expect_near(table[n].scale_dir, golden.at("scale_dir")[n]);
      expect_near(table[n].scale_time, golden.at("scale_time")[n]);
    }
  });
}

TEST(PublishedPredictors, CarryTheTimesThatThePublishedCodeComputed) {
  // In float32, where its trainer and its sampler differ in the last digits.
  for_each_predictor([](const PredictorSpec& spec, const json& golden) {
    ASSERT_TRUE(spec.t_steps);
    const auto expected = golden.at("t_steps_sampling").get<std::vector<double>>();
    ASSERT_EQ(spec.t_steps->size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR((*spec.t_steps)[i] / expected[i], 1, 3e-7);
  });
}

TEST(PublishedPredictors, KeepTheOptionsOfTheirRuns) {
  for_each_predictor([](const PredictorSpec& spec, const json& golden) {
    const auto& options = golden.at("options");
    EXPECT_EQ(name_of(kStudentNames, spec.kind()), options.at("sampler_stu"));
    EXPECT_EQ(spec.dataset_name, options.at("dataset_name"));
    EXPECT_EQ(spec.num_steps, options.at("num_steps"));
    EXPECT_EQ(spec.num_points, options.at("num_points"));
    EXPECT_EQ(spec.afs == Afs::kAnalytical, options.at("afs"));
    EXPECT_EQ(spec.parameters().fcn, options.at("fcn"));
    EXPECT_EQ(spec.parameters().scale_dir, options.at("scale_dir"));
    EXPECT_EQ(spec.parameters().scale_time, options.at("scale_time"));
    EXPECT_EQ(name_of(kScheduleNames, spec.schedule.kind), options.at("schedule_type"));
    EXPECT_EQ(spec.schedule.rho, options.at("schedule_rho"));
    if (spec.kind() == StudentKind::kIpndm) {
      EXPECT_EQ(spec.parameters().max_order.value(), options.at("max_order"));
    }
  });
}

TEST(PublishedPredictors, HaveTheNfeInTheirNames) {
  for_each_predictor([](const PredictorSpec& spec, const json& golden) {
    const auto plan = make_plan(spec, spec.time_steps());
    const std::string name = golden.at("name");
    const std::string part = "-" + std::to_string(spec.num_steps) + "-" + std::to_string(plan.nfe()) + "-";
    EXPECT_THAT(name, ::testing::HasSubstr(part));
    EXPECT_EQ(plan.nfe(), student_nfe(spec));
  });
}

TEST(PublishedPredictors, AreWrittenAsTheyStand) {
  for_each_predictor([](const PredictorSpec& spec, const json&) {
    EXPECT_EQ(parse_predictor(predictor_text(spec), "again").parameters().raw, spec.parameters().raw);
    EXPECT_FALSE(spec.source.empty());
  });
}

}  // namespace
}  // namespace epd::testing
