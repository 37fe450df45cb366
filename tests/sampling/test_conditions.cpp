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

  std::unique_ptr<Conditions> make(const ConditionOptions& options) const {
    const auto model = std::make_shared<const TorchScriptModel>(folder_ / "denoiser.ts", at::kCPU, Precision::kFloat32);
    return make_conditions(model, folder_ / "denoiser.ts", options);
  }
  Condition of(const ConditionOptions& options) const { return make(options)->of({0, 1, 2}, {}); }

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

TEST_F(TextConditionsTest, NegativePromptsTakeThePlaceOfTheEmptyText) {
  ConditionOptions options, other;
  options.prompt = "a";
  other.prompt = "b";
  EXPECT_FALSE(at::equal(of(options).unconditional, of(other).value));
  options.negative_prompt = "b";
  EXPECT_TRUE(at::equal(of(options).unconditional, of(other).value));
  EXPECT_TRUE(at::equal(make(options)->without_text(), make(other)->without_text()));  // the data mean's
  options.cfg = false;
  EXPECT_EQ(test::error_of([&] { of(options); }, 2), "negative_prompt: it has no effect without --guidance_type cfg");
}

TEST_F(TextConditionsTest, ACsvGivesEachImageItsOwnNegativePrompt) {
  write_file(folder_ / "captions.csv", "text,negative_prompt\na,b\na,\na,c\n");
  ConditionOptions file, options;
  file.prompt_file = folder_ / "captions.csv";
  file.negative_prompt = "d";
  const auto found = of(file).unconditional;
  for (const auto& [row, text] : {std::pair(0, "b"), std::pair(1, "d"), std::pair(2, "c")}) {
    options.prompt = text;
    EXPECT_TRUE(at::equal(found[row], of(options).value[row])) << text;
  }
  file.negative_prompt.reset();
  file.cfg = false;
  EXPECT_NE(test::error_of([&] { of(file); }, 2).find("negative prompts have no effect"), std::string::npos);
}

TEST_F(TextConditionsTest, TheUnconditionalStatesMayBeZerosAndHaveAnotherRow) {
  testing::TinyModelOptions model;
  model.facts = test::facts_of(test::Family::kText);
  model.facts.text->rows = model.facts.text->tokens + 1;
  model.facts.text->zeros_unconditional = true;
  testing::make_tiny_model(folder_ / "denoiser.ts", model);
  ConditionOptions options;
  options.prompt = "a";
  const auto condition = of(options);
  EXPECT_EQ(condition.value.size(1), 78);
  EXPECT_EQ(condition.unconditional.sizes(), condition.value.sizes());
  EXPECT_TRUE(condition.unconditional.eq(0).all().item<bool>());
  options.negative_prompt = "";  // given, if empty: the empty text's states
  EXPECT_FALSE(of(options).unconditional.eq(0).all().item<bool>());
}

TEST_F(TextConditionsTest, WeightsAreRefusedAndOtherBracketsReadAsTheyStand) {
  ConditionOptions options;
  for (const char* prompt : {"a (cat:1.3)", "(two words:0.5), b", "((x:2))", "() (y:1.)"}) {
    options.prompt = prompt;
    EXPECT_NE(test::error_of([&] { of(options); }, 2).find("are not supported"), std::string::npos) << prompt;
    std::swap(options.prompt, options.negative_prompt);
    options.prompt = "a";
    EXPECT_NE(test::error_of([&] { of(options); }, 2).find("are not supported"), std::string::npos) << prompt;
    options.negative_prompt.reset();
  }
  for (const char* prompt : {"a (cat:1.3 )", "(at 10:30)", "a:1)", "(cat)", "[cat]", ":)", ")", "1.5)", "(a:b)", ""}) {
    options.prompt = prompt;
    EXPECT_NO_THROW(of(options)) << prompt;
  }
}

}  // namespace
}  // namespace epd
