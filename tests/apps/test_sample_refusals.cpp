#include <ATen/Context.h>
#include <gmock/gmock.h>

#include "sample_program.h"

namespace epd::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class SampleRefuses : public SampleProgram {
 protected:
  /// One line on stderr that says `what`, this exit code, and nothing written or changed.
  void expect_refusal(const Arguments& command, int exit_code, const std::string& what,
                      const Environment& environment = {}) const {
    SCOPED_TRACE(::testing::PrintToString(command));
    const auto before = contents(folder_.path());
    const auto ended = start(command, environment).wait(60s);
    EXPECT_EQ(ended.exit_code, exit_code) << ended.errors;
    EXPECT_EQ(std::count(ended.errors.begin(), ended.errors.end(), '\n'), 1) << ended.errors;
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr(what));
    EXPECT_EQ(contents(folder_.path()), before);
  }
  void refuses(const Arguments& more, int exit_code, const std::string& what,
               const Environment& environment = {}) const {
    Arguments all{"--seeds", "0-1"};
    all.insert(all.end(), more.begin(), more.end());
    expect_refusal(command("images", all), exit_code, what, environment);
  }
  void refuses_predictor(const std::string& json, const std::string& what) const {
    const auto refused = command("images", predictor());
    write("predictor.json", json);
    expect_refusal(refused, 1, what);
  }
  static std::string replaced(std::string json, const std::string& from, const std::string& to) {
    const auto at = json.find(from);
    EXPECT_NE(at, json.npos) << from;
    return json.replace(at, from.size(), to);
  }
};

TEST_F(SampleRefuses, UnknownOptionsAndValues) {
  refuses({"--nonsense", "1"}, 2, "nonsense");
  refuses({"--solver", "magic"}, 2, "magic");
  refuses({"--num_steps", "1"}, 2, "num_steps");
  refuses({"--num_steps", "three"}, 2, "num_steps");
  refuses({"--schedule_type", "linear"}, 2, "linear");
  refuses({"--batch", "0"}, 2, "batch");
  refuses({"--chunk", "-1"}, 2, "chunk");
  refuses({"--writer_threads", "100000"}, 2, "writer_threads");
  refuses({"--grid=perhaps"}, 2, "grid");
  refuses({"--format", "jpeg"}, 2, "jpeg");
  refuses({"--predictor_path", "2"}, 2, "not both");
}

TEST_F(SampleRefuses, OnceWhatAllProcessesOfAJobSee) {
  const Arguments unknown{"--nonsense", "1"}, wrong{"--num_steps", "1"}, missing{"--fid", "nothing.npz"};
  for (const auto& [more, exit_code] : {std::pair{unknown, 2}, std::pair{wrong, 2}, std::pair{missing, 1}}) {
    const auto ended = run_by(3, "images", more);
    for (const auto& rank : ended) EXPECT_EQ(rank.exit_code, exit_code);
    EXPECT_EQ(error_lines(all_errors(ended)), 1) << all_errors(ended);
  }
}

TEST_F(SampleRefuses, SeedsThatAreNone) {
  for (const char* seeds : {"5-3", "a", "-1", "3,3", "0-4,2", "", "4294967296"}) refuses({"--seeds", seeds}, 2, "seed");
}

TEST_F(SampleRefuses, ModelFilesThatAreNone) {
  refuses({"--model_path", (folder_ / "nothing.ts").string()}, 1, "nothing.ts");
  const auto whole = read_file(model_path());
  for (const std::size_t size : {std::size_t{0}, whole.size() / 2, whole.size() - 10}) {
    refuses({"--model_path", write("cut.ts", whole.substr(0, size))}, 1, "cut.ts");
  }
  refuses({"--model_path", write("notes.ts", "not a model")}, 1, "notes.ts");
  testing::make_tiny_detector(folder_ / "foreign.ts");
  refuses({"--model_path", (folder_ / "foreign.ts").string()}, 1, "foreign.ts");
  refuses({"--dataset_name", "unheard-of", "--model_path", ""}, 1, "./launch.sh model unheard-of");
}

TEST_F(SampleRefuses, ModelsThatDoNotKeepTheContract) {
  auto options = model_;
  options.facts_json = "{\"contract_version\": 99}";
  testing::make_tiny_model(folder_ / "other.ts", options);
  refuses({"--model_path", (folder_ / "other.ts").string()}, 1, "contract_version");
  options = model_;
  options.facts.latent = LatentFacts{16, 3};
  options.without_decode = true;
  testing::make_tiny_model(folder_ / "other.ts", options);
  refuses({"--model_path", (folder_ / "other.ts").string()}, 1, "decode");
}

TEST_F(SampleRefuses, PredictorsThatAreDamagedOrForeign) {
  const auto json = predictor_text(predictor());
  refuses_predictor(json.substr(0, json.size() / 2), "predictor.json");
  refuses_predictor(replaced(json, "\"num_points\": 2", "\"num_points\": 3"), "predictor.json");
  refuses_predictor(replaced(json, "0.25", "NaN"), "predictor.json");
  refuses_predictor(replaced(json, "\"version\": 1", "\"version\": 7"), "version");
  refuses_predictor(replaced(json, "\"kind\": \"epd\"", "\"kind\": \"magic\""), "magic");
}

TEST_F(SampleRefuses, PredictorsOfAnotherModel) {
  auto spec = predictor();
  spec.resolution = 64;
  refuses_predictor(predictor_text(spec), "resolution 64");
  spec = predictor();
  spec.label_dim = 0;
  refuses_predictor(predictor_text(spec), "label_dim 0");
}

TEST_F(SampleRefuses, WhatTheModelCannotDo) {
  refuses({"--schedule_type", "discrete"}, 2, "discrete");
  refuses({"--class", "4"}, 2, "class");
  refuses({"--class", "-1"}, 2, "class");
  refuses({"--prompt", "a cat"}, 2, "prompt");
  refuses({"--guidance_type", "cg"}, 2, "guidance_type");
}

TEST_F(SampleRefuses, FoldersThatCannotBeWritten) {
  refuses({"--outdir", "/proc/images"}, 1, "/proc/images");
  refuses({"--outdir", write("file", "x")}, 1, "is a file");
}

TEST_F(SampleRefuses, ADeviceThatIsNotThere) {
  if (at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0) GTEST_SKIP() << "there is one";
  refuses({"--device", "cuda"}, 1, "cuda");
  refuses({"--device", "tpu"}, 2, "tpu");
}

TEST_F(SampleRefuses, AnEnvironmentThatDoesNotFitTogether) { refuses({}, 2, "RANK", {{"WORLD_SIZE", "2"}}); }

TEST_F(SampleRefuses, ToShareAFolderWithARunningProcess) {
  auto first = start(command("shared", {"--seeds", "0-99999", "--batch", "4"}));
  while (!fs::exists(out("shared") / "000000")) std::this_thread::sleep_for(20ms);
  const auto second = run("shared", {"--seeds", "0-3"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.errors, HasSubstr("in use by process"));
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait(60s).exit_code, 143);
}

TEST_F(SampleRefuses, ToGoOnWhenAFileCannotBeWritten) {
  // A limit on the size of files stands for a full disk: the record fits, the states (9 kB) do not.
  model_.facts.resolution = 16;
  testing::make_tiny_model(model_path(), model_);
  Arguments limited{"/bin/bash", "-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""};
  const auto sample = command("images", {"--seeds", "0-7", "--save_inters"});
  limited.insert(limited.end(), sample.begin(), sample.end());
  const auto ended = start(limited).wait(60s);
  EXPECT_EQ(ended.exit_code, 1) << ended.errors;
  EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
  EXPECT_THAT(ended.errors, HasSubstr(".npy"));
  EXPECT_THAT(ended.errors, HasSubstr("too large"));
  for (const auto& [name, bytes] : files("images")) EXPECT_THAT(name, ::testing::EndsWith(".png"));
  EXPECT_EQ(run("images", {"--seeds", "0-7", "--save_inters"}).exit_code, 0);
  EXPECT_EQ(files("images").size(), 16U);
}

}  // namespace
}  // namespace epd::test
