#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "epd/schedule/schedule.h"

// Schedules and noise tables against numbers of the published code in float64 (tests/golden/solvers/README.md).
namespace epd {
namespace {

using nlohmann::json;

json goldens() {
  std::ifstream file(std::string(EPD_SOURCE_DIR) + "/tests/golden/solvers/schedules.json");
  return json::parse(file);
}

std::vector<double> scaled_linear_table(double first, double last) {
  std::vector<double> table;
  double product = 1;
  for (int m = 0; m < 1000; ++m) {
    const double root = std::sqrt(first) + (std::sqrt(last) - std::sqrt(first)) * m / 999;
    table.push_back(product *= 1 - root * root);
  }
  return table;
}

Noise noise_of(const std::string& model) {
  if (model == "ldm") return TableNoise{scaled_linear_table(0.0015, 0.0195)};
  if (model == "sd") return TableNoise{scaled_linear_table(0.00085, 0.0120)};
  if (model == "adm") return VpNoise{19.9, 0.1};
  return {};
}

TEST(PublishedSchedules, AreOursIn64Bits) {
  const auto file = goldens();
  EXPECT_GE(file.at("cases").size(), 40u);
  for (const json& golden : file.at("cases")) {
    const auto& o = golden.at("options");
    const ScheduleOptions options{value_of(kScheduleNames, o.at("schedule_type").get<std::string>(), "schedule_type"),
                                  o.at("schedule_rho"), o.at("sigma_min"), o.at("sigma_max")};
    const auto map = make_sigma_map(noise_of(o.at("model")));
    const auto t = make_time_steps(options, o.at("num_steps"), map.get());
    const auto expected = golden.at("t_steps").get<std::vector<double>>();
    ASSERT_EQ(t.size(), expected.size());
    for (std::size_t i = 0; i < t.size(); ++i) EXPECT_NEAR(t[i] / expected[i], 1, 1e-10) << o << ", point " << i;
  }
}

TEST(PublishedNoiseTables, AreOursIn64Bits) {
  const auto file = goldens();
  for (const json& golden : file.at("tables")) {
    const auto map = make_sigma_map(noise_of(golden.at("name")));
    const auto u = golden.at("u").get<std::vector<double>>();
    for (std::size_t i = 0; i < u.size(); ++i) {
      const double sigma = golden.at("sigma")[i];
      EXPECT_NEAR(map->sigma(u[i]) / sigma, 1, 1e-10) << golden.at("name") << " at u = " << u[i];
      EXPECT_NEAR(map->u(sigma), golden.at("sigma_inv_of_sigma")[i].get<double>(), 1e-10) << golden.at("name");
    }
    EXPECT_NEAR(map->sigma(1e-3) / golden.at("sigma_min").get<double>(), 1, 1e-10);
    EXPECT_NEAR(map->sigma(1) / golden.at("sigma_max").get<double>(), 1, 1e-10);
  }
}

}  // namespace
}  // namespace epd
