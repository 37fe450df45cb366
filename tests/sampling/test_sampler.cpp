#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "epd/core/interrupt.h"
#include "epd/documents/plan_json.h"
#include "epd/runtime/execute.h"
#include "epd/sampling/method.h"
#include "epd/sampling/sampler.h"
#include "epd/sampling/seed_noise.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

using Seeds = std::vector<std::uint64_t>;

class ASampler : public ::testing::Test {
 protected:
  ASampler() {
    method_.solver = solver_kind("heun");
    method_.num_steps = 3;
  }

  Samples draw(const Seeds& seeds) {
    const auto path = folder_ / "denoiser.ts";
    testing::make_tiny_model(path, model_);
    const auto method = make_method(method_, std::nullopt, model_.facts);
    const auto opened = open_model({path, at::kCPU, Precision::kAuto, method.guidance, chunks_});
    const std::shared_ptr<const Conditions> conditions = make_conditions(opened.model, path, condition_);
    return Sampler(opened, conditions, method.plan, method.times[0], options_).draw(seeds);
  }

  void give_labels() {
    model_.facts.condition = ConditionKind::kLabel;
    model_.facts.label_dim = 4;
  }

  test::TemporaryFolder folder_;
  testing::TinyModelOptions model_;
  MethodOptions method_;
  ConditionOptions condition_;
  ChunkOptions chunks_{4, 0};
  SamplerOptions options_;
};

TEST_F(ASampler, MakesOfASeedTheSameBitsInAnyBatch) {
  give_labels();
  const Seeds seeds{3, 1, 4, 15, 9, 2, 6};
  const auto all = draw(seeds).images;
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    EXPECT_TRUE(at::equal(draw({seeds[i]}).images[0], all[static_cast<std::int64_t>(i)])) << "seed " << seeds[i];
  }
}

TEST_F(ASampler, DrawsAPlansNoiseFromTheSeedAlone) {
  give_labels();
  PlanBuilder<double> plan;
  plan.begin_step({5, 1}, false);
  const auto x = plan.state(plan.start() + 3.0 * plan.noise());
  plan.grid_point(plan.denoise(x, 5) + 0.5 * plan.noise());
  std::ofstream(folder_ / "plan.json") << plan_json(plan.plan(), "sde");
  method_ = {.plan = folder_ / "plan.json"};
  const Seeds seeds{3, 1, 4, 15, 9};
  const auto all = draw(seeds).images;
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    EXPECT_TRUE(at::equal(draw({seeds[i]}).images[0], all[static_cast<std::int64_t>(i)])) << "seed " << seeds[i];
  }
  EXPECT_FALSE(at::equal(all[0], all[1]));
}

TEST_F(ASampler, NamesAnImageThatIsNotFiniteWithItsStepOrLeavesItOut) {
  const Seeds seeds{3, 1, 4, 15, 9, 2, 6};
  options_.keep_states = true;
  const auto whole = draw(seeds);
  const auto path = folder_ / "denoiser.ts";
  const auto method = make_method(method_, std::nullopt, model_.facts);
  /// Overflows for the latents whose first value is above a bound, below a noise level.
  class Overflowing : public Denoiser {
   public:
    Overflowing(std::shared_ptr<const Denoiser> inner, double level) : inner_(std::move(inner)), level_(level) {}
    const ModelFacts& facts() const override { return inner_->facts(); }
    at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                       const Condition& condition) const override {
      auto result = inner_->forward(x, sigma, num_points, condition).clone();
      for (std::int64_t i = 0; i < x.size(0); ++i) {
        const bool bad = sigma[i].item<double>() < level_ && x[i][0][0][0].item<double>() > 0;
        if (bad) result[i][1][2][3] = std::numeric_limits<double>::infinity();
      }
      return result;
    }
    Differentiated differentiate(const at::Tensor&, const at::Tensor&, std::int64_t, const Condition&) const override {
      return {};
    }

   private:
    std::shared_ptr<const Denoiser> inner_;
    double level_;
  };
  auto opened = open_model({path, at::kCPU, Precision::kAuto, method.guidance, chunks_});
  opened.denoiser = std::make_shared<Overflowing>(opened.denoiser, 10.0);  // of 80, 9.7..., 0.002
  const std::shared_ptr<const Conditions> conditions = make_conditions(opened.model, path, condition_);
  options_.on_bad = OnBad::kSkip;
  const auto drawn = Sampler(opened, conditions, method.plan, method.times[0], options_).draw(seeds);
  ASSERT_FALSE(drawn.bad.empty());
  ASSERT_FALSE(drawn.seeds.empty());
  EXPECT_EQ(drawn.bad.size() + drawn.seeds.size(), seeds.size());
  for (const auto& image : drawn.bad) {
    EXPECT_EQ(std::ranges::count(seeds, image.seed), 1);
    EXPECT_EQ(std::ranges::count(drawn.seeds, image.seed), 0);
    // Heun meets the second noise level at the end of step 1 and at the begin of step 2.
    EXPECT_THAT(image.where, ::testing::MatchesRegex("from step [12] of 2 on"));
  }
  EXPECT_EQ(drawn.images.size(0), static_cast<std::int64_t>(drawn.seeds.size()));
  EXPECT_EQ(drawn.states.size(), 3U);
  for (std::size_t i = 0; i < drawn.seeds.size(); ++i) {
    const auto row = std::ranges::find(seeds, drawn.seeds[i]) - seeds.begin();
    EXPECT_TRUE(at::equal(drawn.images[static_cast<std::int64_t>(i)], whole.images[row]));
    EXPECT_TRUE(at::equal(drawn.states[1][static_cast<std::int64_t>(i)], whole.states[1][row]));
  }
  options_.on_bad = OnBad::kStop;
  try {
    Sampler(opened, conditions, method.plan, method.times[0], options_).draw(seeds);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string begin = drawn.bad[0].message();
    EXPECT_EQ(std::string(error.what()).substr(0, begin.size()), begin);
  }
}

TEST_F(ASampler, MakesTheSameBitsUnderGuidance) {
  give_labels();
  method_.guidance_type = GuidanceKind::kClassifierFree;
  method_.guidance_rate = 3;
  EXPECT_TRUE(at::equal(draw({5}).images[0], draw({1, 2, 3, 4, 5, 6}).images[4]));
}

TEST_F(ASampler, DrawsALabelFromEachSeedOrTakesTheOneAskedFor) {
  give_labels();
  const auto drawn = draw({0, 1, 2});
  EXPECT_TRUE(at::equal(drawn.labels, seed_noise({0, 1, 2}, model_.facts, at::kCPU).labels));
  condition_.label = 2;
  const auto asked = draw({0, 1, 2});
  EXPECT_TRUE(at::equal(asked.labels, at::full({3}, 2, at::kLong)));
  EXPECT_FALSE(at::equal(asked.images, drawn.images));
}

TEST_F(ASampler, HandsOutTheStatesAtAllGridPoints) {
  options_.keep_states = true;
  const auto drawn = draw({7, 8});
  ASSERT_EQ(drawn.states.size(), 3U);
  EXPECT_TRUE(at::equal(drawn.states[0], seed_noise({7, 8}, model_.facts, at::kCPU).latents * 80));
  EXPECT_TRUE(at::equal(drawn.states[2], drawn.images));
}

TEST_F(ASampler, DecodesLatentsWhateverTheSlices) {
  model_.facts.channels = 4;
  model_.facts.latent = LatentFacts{16, 3};
  options_.decode_batch = 3;
  const auto all = draw({1, 2, 3, 4, 5}).images;
  EXPECT_EQ(all.sizes(), (std::vector<std::int64_t>{5, 3, 16, 16}));
  EXPECT_TRUE(at::equal(draw({5}).images[0], all[4]));
}

TEST_F(ASampler, StopsWhenItIsAskedTo) {
  request_stop(std::string("another process failed"));
  EXPECT_THROW(draw({1}), Error);
  clear_stop_request();
}

TEST_F(ASampler, RefusesConditionsThatTheModelDoesNotHave) {
  condition_.label = 1;
  EXPECT_THROW(draw({1}), UsageError);
  give_labels();
  condition_.label = 4;
  EXPECT_THROW(draw({1}), UsageError);
  condition_.label.reset();
  condition_.prompt = "a cat";
  EXPECT_THROW(draw({1}), UsageError);
}

}  // namespace
}  // namespace epd
