#include <gtest/gtest.h>

#include "apps/families.h"
#include "epd/sampling/conditions.h"

namespace epd {
namespace {

/// A model that reads 75 tokens, of which every letter is one.
class TextConditionsTest : public ::testing::Test {
 protected:
  TextConditionsTest() {
    testing::TinyModelOptions model;
    model.facts = test::facts_of(test::Family::kText);
    testing::make_tiny_model(folder_ / "denoiser.ts", model);
    test::write_vocabulary(folder_.path());
  }

  std::string cut_off(const ConditionOptions& options, const std::vector<std::uint64_t>& seeds) const {
    const auto model = std::make_shared<const TorchScriptModel>(folder_ / "denoiser.ts", at::kCPU, Precision::kFloat32);
    return make_conditions(model, folder_ / "denoiser.ts", options)->cut_off(seeds);
  }

  test::TemporaryFolder folder_;
};

TEST_F(TextConditionsTest, SayWhatIsCutOffAPromptForAll) {
  ConditionOptions options;
  options.prompt = std::string(70, 'a') + " bcdef";
  EXPECT_EQ(cut_off(options, {3, 4}), "");
  options.prompt = std::string(70, 'a') + " bcd efg hi";
  EXPECT_EQ(cut_off(options, {3, 4}), "the prompt loses 'efg hi' (the model reads 75 tokens)");
  options.prompt = std::string(76, 'a');
  EXPECT_EQ(cut_off(options, {}), "the prompt loses '" + std::string(60, 'a') + "...' (the model reads 75 tokens)");
}

TEST_F(TextConditionsTest, CountTheCaptionsThatAreTooLongAndShowTheFirst) {
  const std::string fits(75, 'a');
  write_file(folder_ / "captions.txt", fits + " b\nshort\n" + fits + "\n" + fits + " in the end\n\n");
  ConditionOptions options;
  options.prompt_file = folder_ / "captions.txt";
  EXPECT_EQ(cut_off(options, {1, 2, 4}), "");
  EXPECT_EQ(cut_off(options, {1, 3, 0}),
            "2 of 3 prompts are too long: the prompt of seed 3 loses 'in the end' (the model reads 75 tokens)");
  EXPECT_EQ(cut_off(options, {}), "2 of 5 prompts are too long: caption 0 loses 'b' (the model reads 75 tokens)");
}

}  // namespace
}  // namespace epd
