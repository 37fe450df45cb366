#include <gtest/gtest.h>

#include "epd/denoiser/open_model.h"
#include "epd/runtime/execute.h"
#include "epd/solver/make_plan.h"
#include "support/golden_solvers.h"
#include "support/mixture_model.h"
#include "support/test_files.h"

namespace epd {
namespace {

using nlohmann::json;

/// The states of a golden case at its grid points, [N, B, C, H, W], by the product's denoiser in float64.
at::Tensor states_of(const json& golden, bool thresholding) {
  const auto shape = golden.at("shape").get<std::vector<std::int64_t>>();
  const auto t = TimeSteps(golden.at("t_steps").get<std::vector<double>>());
  auto facts = testing::mixture_facts();
  facts.resolution = static_cast<int>(shape[2]);
  const test::TemporaryFolder folder;
  testing::make_mixture_model(folder / "denoiser.ts", facts);
  const GuidanceOptions guidance{.thresholding = thresholding};
  const auto model = open_model({folder / "denoiser.ts", at::kCPU, Precision::kAuto, guidance, {}});

  Condition condition;
  condition.value = at::tensor(golden.at("labels").get<std::vector<std::int64_t>>(), at::kLong);
  const auto plan = make_plan(testing::golden_options(golden.at("options")), t);
  const auto start = at::tensor(golden.at("states")[0].get<std::vector<double>>(), at::kDouble).view(shape);
  std::vector<at::Tensor> states;
  execute(plan, *model.denoiser, condition, start, [&](std::size_t, const at::Tensor& x) { states.push_back(x); });
  return at::stack(states);
}

TEST(Thresholding, GivesThePublishedStates) {
  int count = 0;
  for (const char* file : {"baselines", "unipc"}) {
    for (const json& golden : testing::golden_cases(file)) {
      if (!golden.at("options").value("thresholding", false)) continue;
      const auto ours = states_of(golden, true), without = states_of(golden, false);
      for (std::size_t n = 0; n < golden.at("states").size(); ++n) {
        const auto expected = at::tensor(golden.at("states")[n].get<std::vector<double>>(), at::kDouble);
        const double gap = (ours[static_cast<std::int64_t>(n)].flatten() - expected).abs().max().item<double>();
        EXPECT_LE(gap, 1e-11 * expected.abs().max().item<double>()) << golden.at("name") << ", grid point " << n;
      }
      EXPECT_GT((ours[-1] - without[-1]).abs().max().item<double>(), 1e-3) << golden.at("name");
      ++count;
    }
  }
  EXPECT_EQ(count, 3);
}

}  // namespace
}  // namespace epd
