#include <gtest/gtest.h>

#include "epd/sampling/conditions.h"
#include "epd/sampling/seed_noise.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

ModelFacts labelled_facts() {
  auto facts = testing::tiny_facts();
  facts.condition = ConditionKind::kLabel;
  facts.label_dim = 10;
  return facts;
}

// g = torch.Generator().manual_seed(seed); x = torch.randn(3, 8, 8, generator=g); torch.randint(10, (1,), generator=g)
TEST(Latents, AreTorchsOwnNumbersForTheSeedAndThenTheLabel) {
  struct Expected {
    std::uint64_t seed;
    float first, middle, last;
    std::int64_t label;
  };
  for (const auto& expected :
       {Expected{0, -1.1258398294448853F, -0.9565008282661438F, -1.1959494352340698F, 6},
        Expected{7, -0.8201345205307007F, 0.16328637301921844F, -0.0043832482770085335F, 5},
        Expected{4294967295, -2.664297580718994F, 0.7806432247161865F, 1.4028971195220947F, 3}}) {
    const auto draws = seed_noise({expected.seed}, labelled_facts(), at::kCPU);
    EXPECT_EQ(draws.latents[0][0][0][0].item<float>(), expected.first);
    EXPECT_EQ(draws.latents[0][1][3][5].item<float>(), expected.middle);
    EXPECT_EQ(draws.latents[0][2][7][7].item<float>(), expected.last);
    EXPECT_EQ(draws.labels[0].item<std::int64_t>(), expected.label);
  }
}

TEST(Noise, OfAPlanIsTheNextOfTorchsOwnNumbers) {
  // torch.Generator().manual_seed(7): randn(3, 8, 8), randint(10), randn(3, 8, 8), whose first, middle and last these
  // are.
  const auto draws = seed_noise({7}, labelled_facts(), at::kCPU);
  const auto next = at::empty({3, 8, 8}).normal_(0, 1, draws.streams.at(0));
  EXPECT_EQ(next[0][0][0].item<float>(), 0.18637984991073608F);
  EXPECT_EQ(next[1][3][5].item<float>(), 0.7981923222541809F);
  EXPECT_EQ(next[2][7][7].item<float>(), -0.25299546122550964F);
}

TEST(Latents, DoNotDependOnTheirNeighbours) {
  const auto facts = labelled_facts();
  const auto alone = seed_noise({42}, facts, at::kCPU), among = seed_noise({7, 9, 42, 3}, facts, at::kCPU);
  EXPECT_TRUE(at::equal(alone.latents[0], among.latents[2]));
  EXPECT_TRUE(at::equal(alone.labels[0], among.labels[2]));
}

TEST(Latents, OfAModelWithoutLabelsComeWithoutLabels) {
  EXPECT_FALSE(seed_noise({1}, testing::tiny_facts(), at::kCPU).labels.defined());
}

TEST(LabelCondition, IsOneHotWithZerosForNoLabel) {
  const auto condition = label_condition(at::tensor({2, 0}, at::kLong), labelled_facts());
  EXPECT_EQ(condition.value.sizes(), (std::vector<std::int64_t>{2, 10}));
  EXPECT_EQ(condition.value[0][2].item<float>(), 1);
  EXPECT_EQ(condition.value.sum().item<float>(), 2);
  EXPECT_EQ(condition.unconditional.abs().sum().item<float>(), 0);
}

TEST(LabelCondition, IsTheIndexWhereTheModelTakesIndices) {
  auto facts = labelled_facts();
  facts.label_format = LabelFormat::kIndex;
  const auto labels = at::tensor({2, 0}, at::kLong);
  EXPECT_TRUE(at::equal(label_condition(labels, facts).value, labels));
}

TEST(LabelCondition, GivesAClassifierItsLabelsWhereTheModelTakesNone) {
  auto facts = labelled_facts();
  facts.condition = ConditionKind::kNone;
  facts.classifier = true;
  const auto condition = label_condition(at::tensor({2}, at::kLong), facts);
  EXPECT_FALSE(condition.value.defined());
  EXPECT_TRUE(condition.labels.defined());
}

}  // namespace
}  // namespace epd
