#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "distributed/job.h"
#include "epd/evaluation/compare.h"
#include "epd/files/atomic_file.h"
#include "epd/images/png.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

/// The program `compare` on a tiny class-conditional model.
class CompareProgram : public ::testing::Test {
 protected:
  CompareProgram() {
    testing::TinyModelOptions model;
    model.facts.condition = ConditionKind::kLabel;
    model.facts.label_dim = 4;
    testing::make_tiny_model(folder_ / "denoiser.ts", model);
    testing::make_tiny_detector(folder_ / "features.ts", 4);
  }

  std::vector<std::string> command(const std::string& outdir, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> result{std::string(EPD_BINARY_DIR) + "/bin/compare"};
    const auto add = [&](const std::string& name, const std::string& value) {
      result.insert(result.end(), {name, value});
    };
    add("--device", "cpu");
    add("--model_path", (folder_ / "denoiser.ts").string());
    add("--detector", (folder_ / "features.ts").string());
    add("--outdir", (folder_ / outdir).string());
    add("--seeds", "0-12");
    add("--chunk", "4");
    add("--batch", "8");
    add("--solvers", "euler");
    add("--schedules", "polynomial");
    add("--nfe", "4,8,16");
    add("--extra", "heun@polynomial#5,dpmpp:3@logsnr#40");
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  json rows(const std::string& outdir) const {
    return json::parse(read_file(folder_ / outdir / "results.json")).at("rows");
  }
  test::Ended run(const std::string& outdir, const std::vector<std::string>& more = {}) const {
    return test::Child(command(outdir, more), {}, logs_.path().string()).wait(120s);
  }

  test::TemporaryFolder folder_, logs_;
};

TEST_F(CompareProgram, TakesTheUsualSchedulesOfTheModelWhereNoneIsNamed) {
  testing::TinyModelOptions flow;
  flow.facts.noise = FlowNoise{3};
  flow.facts.sigma_min = 0.001;
  flow.facts.sigma_max = 1;
  testing::make_tiny_model(folder_ / "flow.ts", flow);
  for (const auto& [file, exact, expected] :
       {std::tuple("flow.ts", "euler@flowmatch#6", std::vector<std::string>{"flowmatch 3"}),
        std::tuple("denoiser.ts", "euler@polynomial#6",
                   std::vector<std::string>{"time_uniform", "polynomial 7", "logsnr"})}) {
    auto line = command(std::string("of ") + file, {"--nfe", "2", "--exact", exact});
    line.erase(std::ranges::find(line, "--schedules"), std::ranges::find(line, "--extra") + 2);
    *(std::ranges::find(line, "--model_path") + 1) = (folder_ / file).string();
    const auto ended = test::Child(line, {}, logs_.path().string()).wait(120s);
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;
    const auto found = rows(std::string("of ") + file);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(found.at(i).at("schedule"), expected[i]);
    EXPECT_EQ(found.size(), expected.size() + 1);
  }
}

TEST_F(CompareProgram, LeavesOutImagesThatAreNotFiniteWhereItIsAskedToAndElseStops) {
  testing::TinyModelOptions model;
  model.facts.condition = ConditionKind::kLabel;
  model.facts.label_format = LabelFormat::kIndex;
  model.facts.label_dim = 4;
  model.bad_label = 1;
  testing::make_tiny_model(folder_ / "bad.ts", model);
  const std::vector<std::string> bad{"--model_path", (folder_ / "bad.ts").string(), "--nfe", "2",
                                     "--extra",      "euler@polynomial#3"};
  auto skip = bad;
  skip.insert(skip.end(), {"--on_bad", "skip"});
  const auto skipped = run("skip", skip);
  ASSERT_EQ(skipped.exit_code, 0) << skipped.errors;
  EXPECT_GT(rows("skip").at(0).at("missing"), 0);
  EXPECT_TRUE(std::isfinite(rows("skip").at(0).at("rmse").get<double>()));
  EXPECT_THAT(skipped.errors, ::testing::HasSubstr("it is left out"));
  const auto stopped = run("stop", bad);
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_THAT(stopped.errors, ::testing::HasSubstr("seed"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "stop/results.json"));
}

TEST_F(CompareProgram, ScoresEveryRowAgainstTheExactOde) {
  const auto ended = run("one");
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  const auto table = rows("one");
  ASSERT_EQ(table.size(), 6U);
  for (const auto& row : table) EXPECT_EQ(row.size(), 8U);
  EXPECT_GT(table[0].at("rmse"), table[1].at("rmse"));
  EXPECT_GT(table[1].at("rmse"), table[2].at("rmse"));
  EXPECT_GT(table[2].at("rmse"), 1e-4);
  EXPECT_EQ(table[1].at("nfe"), 8);
  EXPECT_EQ(table[3].at("nfe"), 5);
  // The fine trajectory as a contender is itself.
  EXPECT_EQ(table[4].at("rmse"), 0);
  EXPECT_NEAR(table[4].at("fd_exact"), 0, 1e-9);
  EXPECT_EQ(table[5].at("rmse"), 0);
  EXPECT_EQ(table[5].at("fd_exact"), 0);
  EXPECT_TRUE(table[5].at("fd_data").is_null());
  EXPECT_EQ(table[5].at("solver"), "reference (DPM-Solver++-3, 40 NFE)");
  const auto image = decode_png(read_file(folder_ / "one" / "compare.png"), "compare.png");
  EXPECT_GT(image.height, 6 * 64);
  EXPECT_GT(image.width, 12 * 64);
}

TEST_F(CompareProgram, ShowsAsManyRowsAsItIsTold) {
  const auto height = [&](const std::string& rows) {
    EXPECT_EQ(run("rows", {"--seeds", "0-2", "--picture_rows", rows}).exit_code, 0);
    return decode_png(read_file(folder_ / "rows" / "compare.png"), "compare.png").height;
  };
  const int two = height("2"), three = height("3");
  EXPECT_EQ(height("0"), two + 4 * (three - two));
}

TEST_F(CompareProgram, FindsTheSameInTwoProcessesAndInMoreThanThereAreImages) {
  ASSERT_EQ(run("one", {"--seeds", "0-2"}).exit_code, 0);
  const auto expected = rows("one");
  for (const int size : {2, 4}) {
    const auto outdir = "by" + std::to_string(size);
    const auto ranks = test::run_job(size, [&](const test::Environment& rank) {
      return test::Child(command(outdir, {"--seeds", "0-2"}), rank, logs_.path().string());
    });
    for (const auto& ended : ranks) ASSERT_EQ(ended.exit_code, 0) << ended.errors;
    const auto table = rows(outdir);
    ASSERT_EQ(table.size(), expected.size());
    for (std::size_t i = 0; i < table.size(); ++i) {
      const double rmse = expected[i].at("rmse"), fd = expected[i].at("fd_exact");
      EXPECT_NEAR(table[i].at("rmse"), rmse, 1e-12 * rmse) << table[i];
      EXPECT_NEAR(table[i].at("fd_exact"), fd, 1e-9 * fd + 1e-9) << table[i];
    }
  }
}

TEST_F(CompareProgram, RanksPlanFilesAndListedTimes) {
  const auto explained =
      test::Child({std::string(EPD_BINARY_DIR) + "/bin/sample", "--model_path", (folder_ / "denoiser.ts").string(),
                   "--solver", "euler", "--num_steps", "5", "--explain", "--json"},
                  {}, logs_.path().string())
          .wait(60s);
  write_file(folder_ / "plan.json", explained.output);
  write_file(folder_ / "list.txt", "80, 10, 2, 0.5, 0.002");
  const auto ended = run("plans", {"--plans", (folder_ / "plan.json").string() + "=mine", "--sigmas",
                                   (folder_ / "list.txt").string(), "--nfe", "4", "--seeds", "0-3"});
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  const auto table = rows("plans");
  EXPECT_EQ(table[0].at("solver"), "mine");
  EXPECT_EQ(table[0].at("schedule"), "plan");
  EXPECT_EQ(table[1].at("solver"), "euler on list");
  EXPECT_EQ(table[1].at("nfe"), 4);
  EXPECT_EQ(table[2].at("solver"), "euler");
  EXPECT_EQ(table[0].at("rmse"), table[2].at("rmse"));  // the plan is this row's
  EXPECT_NE(table[1].at("rmse"), table[2].at("rmse"));
}

TEST_F(CompareProgram, RanksTheZooByItsCostAndThenItsError) {
  testing::TinyModelOptions model;
  model.facts.dataset_name = "cifar10";
  model.facts.resolution = 32;
  testing::make_tiny_model(folder_ / "cifar10.ts", model);
  const auto ended = run(
      "zoo", {"--model_path", (folder_ / "cifar10.ts").string(), "--zoo", "--seeds", "0-1", "--picture_images", "2"});
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  auto table = rows("zoo");
  EXPECT_THAT(table.back().at("solver").get<std::string>(), ::testing::StartsWith("reference"));
  table.erase(table.size() - 1);
  EXPECT_GT(table.size(), 24u);
  const auto place = [](const json& row) { return std::pair(row.at("nfe").get<int>(), row.at("rmse").get<double>()); };
  EXPECT_TRUE(std::ranges::is_sorted(table, {}, place)) << table;
  const auto of = [&](const std::string& name) {
    return std::ranges::count_if(
        table, [&](const json& row) { return row.at("solver").get<std::string>().starts_with(name); });
  };
  EXPECT_EQ(of("adasde/"), 8);
  EXPECT_EQ(of("euler"), 3);
}

TEST_F(CompareProgram, RefusesWhatItCannotCompareInOneLine) {
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--solvers", "amed"},
                                             {"--seeds", "1"},
                                             {"--nfe", "0"},
                                             {"--extra", "euler@logsnr"},
                                             {"--schedules", "karras"},
                                             {"--picture_rows", "-1"},
                                             {"--data", (folder_ / "absent.npz").string()}}) {
    const auto ended = run("refused", more);
    EXPECT_THAT(ended.exit_code, ::testing::AnyOf(1, 2)) << more[0];
    EXPECT_EQ(test::error_lines(ended.errors), 1) << ended.errors;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "refused")) << more[0];
  }
}

}  // namespace
}  // namespace epd
