// A run goes on only as what it was: every option that decides the result is changed in turn, and refused by its name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "epd/core/sha256.h"
#include "epd/distill/run_train.h"
#include "epd/files/options_json.h"
#include "epd/sampling/sample_options.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd::test {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

bool decides(const Option& option) {
  return option.info.decides == Decides::kResult || option.info.decides == Decides::kContent;
}

/// "a, b or c" -> a, b, c.
Words choices_of(const Option& option) {
  std::string list = option.info.choices;
  for (auto at = list.find(" or "); at != list.npos; at = list.find(" or ")) list.replace(at, 4, ", ");
  Words words;
  for (std::size_t start = 0; start < list.size();) {
    const auto end = std::min(list.find(", ", start), list.size());
    words.push_back(list.substr(start, end - start));
    start = end + 2;
  }
  return words;
}

/// Other values that the option may have. `files` are a model, a detector, captions: one of each kind.
Words other_values(const Option& option, const Words& files) {
  Words candidates = choices_of(option);
  if (option.kind == Option::Kind::kBool) candidates = {"True", "False", "mean"};
  if (option.kind == Option::Kind::kNumber) candidates = {"2", "3", "1", "0.5", "0.25", "7", "5"};
  if (candidates.empty()) candidates = {"other"};
  if (option.info.decides == Decides::kContent) candidates.insert(candidates.end(), files.begin(), files.end());
  std::erase(candidates, option.get().empty() ? "" : option.get().front());
  std::erase(candidates, "auto");  // may mean what stands there
  return candidates;
}

class ARunThatIsResumed : public ::testing::Test {
 protected:
  void SetUp() override {
    // Labels, a classifier and a text encoder never meet in one model; a label is enough for all kinds of guidance.
    testing::TinyModelOptions model;
    model.facts.label_dim = 3;
    model.facts.condition = ConditionKind::kLabel;
    model.facts.classifier = true;
    testing::make_tiny_model(folder_ / "model.ts", model);
    model.seed = 2;
    testing::make_tiny_model(folder_ / "other_model.ts", model);
    testing::make_tiny_detector(folder_ / "detector.ts");
    testing::make_tiny_detector(folder_ / "other_detector.ts", 8, 2);
    std::ofstream(folder_ / "captions.txt") << "a cat\na dog\n";
    torch::jit::Module reward("Reward");
    reward.define(
        "def forward(self, images: Tensor, texts: List[str]) -> Tensor:\n    return images.mean([1, 2, 3])\n");
    reward.save((folder_ / "reward.ts").string());
    files_ = {(folder_ / "other_model.ts").string(), (folder_ / "other_detector.ts").string(),
              (folder_ / "captions.txt").string(), (folder_ / "reward.ts").string(), "midpoint"};
  }

  /// A run in which every option has a meaning: a history, features that join later, a validation, a teacher's grid.
  TrainRun run(const char* teacher = "dpm", bool search = false) const {
    TrainRun run;
    auto& o = run.options;
    o.search = search;
    o.search_directions = 1;
    o.dataset_name = "tiny";
    o.student = StudentKind::kIpndm;
    o.teacher = value_of(kSolverNames, teacher, "teacher");
    o.num_steps = 3;
    o.num_inserted = 1;
    o.objective = Objective::kEndToEnd;
    o.loss_metric = LossMetric::kL2AndFeatures;
    o.total_kimg = 0.004;
    o.batch = 4;
    o.val_images = 4;
    o.guidance_type = GuidanceKind::kClassifier;
    run.model_path = (folder_ / "model.ts").string();
    run.detector = (folder_ / "detector.ts").string();
    run.outdir = folder_ / text(teacher, search ? "-search" : "");
    run.nosubdir = true;
    run.chunk = 4;
    run.precision = Precision::kFloat32;
    run.command_line = "{}";
    return run;
  }

  std::string refusal(const TrainRun& run) const {
    try {
      run_train(run, *ProcessGroup::alone());
    } catch (const UsageError& e) {
      return e.what();
    } catch (const Error& e) {
      return text("another error: ", e.what());
    }
    return "";
  }

  TemporaryFolder folder_;
  Words files_;
};

TEST_F(ARunThatIsResumed, RefusesEveryOptionThatDecidesTheResultByItsName) {
  std::set<std::string> walked, refused;
  // No teacher knows all options, and some are for a search only.
  for (const auto& [teacher, search] : {std::pair("dpm", false), std::pair("ipndm", false), std::pair("dpm", true)}) {
    ASSERT_EQ(refusal(run(teacher, search)), "");
    auto again = run(teacher, search);
    again.resume = again.outdir.string();
    ASSERT_EQ(refusal(again), "");
    auto described = again;
    for (const Option& base : options_of(described)) {
      if (!decides(base)) continue;
      walked.insert(base.name);
      for (const auto& value : other_values(base, files_)) {
        auto changed = again;
        auto options = options_of(changed);
        try {
          options.find(base.name)->set({value});
        } catch (const UsageError&) {
          continue;  // not a value of this option
        }
        const auto answer = refusal(changed);
        ASSERT_NE(answer, "") << base.name << " = " << value << " went on";
        const auto hashed = base.name.substr(0, base.name.find("_path")) + "_sha256";
        const bool named = answer.find(base.name + " is ") != answer.npos ||
                           answer.find(hashed + " is ") != answer.npos ||
                           (base.name == "total_kimg" && answer.find("total_kimg") != answer.npos);
        // A run may be made longer where what it has learned stands (total_kimg), and says so in words of its own.
        const bool other = answer.find("was trained with other options: ") != answer.npos || base.name == "total_kimg";
        if (named && other) {
          refused.insert(base.name);
          break;
        }
      }
    }
  }
  EXPECT_EQ(refused, walked);
  EXPECT_GT(walked.size(), 40U);
}

TEST_F(ARunThatIsResumed, GoesOnWithOtherResources) {
  ASSERT_EQ(refusal(run()), "");
  auto again = run();
  again.resume = again.outdir.string();
  again.resources.batch_gpu = 2;
  again.resources.adjoint = AdjointMemory::kKeep;
  again.tick = 0.002;
  again.dump = 0;
  EXPECT_EQ(refusal(again), "");
}

TEST_F(ARunThatIsResumed, KnowsFilesByTheirContentAndNotByTheirName) {
  ASSERT_EQ(refusal(run()), "");
  auto again = run();
  again.resume = again.outdir.string();
  fs::copy_file(folder_ / "model.ts", folder_ / "copy.ts");
  again.model_path = (folder_ / "copy.ts").string();
  EXPECT_EQ(refusal(again), "");
  fs::copy_file(folder_ / "other_model.ts", folder_ / "model.ts", fs::copy_options::overwrite_existing);
  again.model_path = (folder_ / "model.ts").string();
  EXPECT_THAT(refusal(again), HasSubstr("model_sha256 is "));
}

TEST(RecordOfOptions, HoldsACaptionFileByItsHash) {
  const TemporaryFolder folder;
  const auto path = folder / "captions.txt";
  SampleOptions o;
  o.condition.prompt_file = path;
  std::ofstream(path) << "one";
  const auto one = decisive_options(options_of(o), nlohmann::ordered_json::object());
  std::ofstream(path) << "two";
  const auto two = decisive_options(options_of(o), nlohmann::ordered_json::object());
  EXPECT_EQ(one["prompt_file_sha256"], sha256_hex("one"));
  EXPECT_THAT(first_difference(one, two).value_or(""), HasSubstr("prompt_file_sha256 is "));
}

TEST(RecordOfOptions, ChangesWithEveryOptionOfSampleThatDecidesTheImages) {
  SampleOptions base;
  const auto before = decisive_options(options_of(base), nlohmann::ordered_json::object());
  for (const Option& option : options_of(base)) {
    if (!decides(option)) continue;
    bool changed = false;
    for (const auto& value : other_values(option, {"other"})) {
      SampleOptions copy = base;
      auto options = options_of(copy);
      try {
        options.find(option.name)->set({value});
      } catch (const UsageError&) {
        continue;
      }
      const auto difference = first_difference(before, decisive_options(options, nlohmann::ordered_json::object()));
      changed = difference && difference->starts_with(option.name + " is ");
      if (changed) break;
    }
    EXPECT_TRUE(changed) << option.name;
  }
}

}  // namespace
}  // namespace epd::test
