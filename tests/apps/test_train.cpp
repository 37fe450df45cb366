#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "distributed/job.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"
#include "epd/files/npz.h"
#include "epd/images/image.h"
#include "epd/images/png.h"
#include "epd/metrics/detector.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

/// A test that runs the program `train` on a tiny class-conditional model of its own.
class TrainProgram : public ::testing::Test {
 protected:
  TrainProgram() {
    epd::testing::TinyModelOptions model;
    model.facts.condition = ConditionKind::kLabel;
    model.facts.label_dim = 4;
    epd::testing::make_tiny_model(out("denoiser.ts"), model);
    epd::testing::make_tiny_detector(out("features.ts"));
  }

  fs::path out(const std::string& name) const { return folder_ / name; }

  /// Eight iterations of six images; `more` comes behind and wins.
  Arguments command(const std::string& outdir, const Arguments& more = {}) const {
    Arguments result{std::string(EPD_BINARY_DIR) + "/bin/train",
                     "--device",
                     "cpu",
                     "--dataset_name",
                     "tiny",
                     "--model_path",
                     out("denoiser.ts").string(),
                     "--outdir",
                     out(outdir).string(),
                     "--nosubdir",
                     "--batch",
                     "6",
                     "--total_kimg",
                     "0.048",
                     "--tick",
                     "0.012",
                     "--chunk",
                     "4",
                     "--loss_metric",
                     "l2",
                     "--sampler_tea",
                     "heun",
                     "--M",
                     "1",
                     "--afs",
                     "True",
                     "--seed",
                     "3"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }

  Child start(const Arguments& command, const Environment& environment = {}) const {
    return Child(command, environment, logs_.path().string());
  }
  Ended run(const std::string& outdir, const Arguments& more = {}, const Environment& environment = {}) const {
    return start(command(outdir, more), environment).wait(120s);
  }
  void run_by(int size, const std::string& outdir, const Arguments& more) const {
    const auto ranks = run_job(size, [&](const Environment& rank) { return start(command(outdir, more), rank); });
    for (const auto& ended : ranks) ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  }

  /// The lines of the run's statistics, one for each tick.
  std::ptrdiff_t ticks(const std::string& outdir) const {
    const auto path = out(outdir) / "stats.jsonl";
    const std::string lines = fs::exists(path) ? read_file(path) : "";
    return std::count(lines.begin(), lines.end(), '\n');
  }
  /// Writes the statistics of a standard normal distribution of the tiny detector's features.
  std::string standard_normal_reference() const {
    const auto features = static_cast<std::size_t>(Detector(out("features.ts")).num_features());
    std::vector<double> identity(features * features);
    for (std::size_t i = 0; i < features; ++i) identity[i * features + i] = 1;
    const auto path = out("reference.npz").string();
    write_npz(path, {{"mu", Array::doubles({features}, std::vector<double>(features))},
                     {"sigma", Array::doubles({features, features}, identity)}});
    return path;
  }
  /// The Frechet distances in the run's statistics, by tick.
  std::map<std::int64_t, double> distances_of(const std::string& outdir) const {
    std::istringstream lines(read_file(out(outdir) / "stats.jsonl"));
    std::map<std::int64_t, double> distances;
    for (std::string line; std::getline(lines, line);) {
      auto json = JsonReader::parse(line, "stats.jsonl");
      if (json.has("frechet_distance")) distances[json.integer("tick", 0, 99)] = json.number("frechet_distance");
    }
    return distances;
  }

  /// Waits until the run has written so many ticks, or has ended.
  void await_ticks(const Child& child, const std::string& outdir, std::ptrdiff_t count) const {
    while (child.runs() && ticks(outdir) < count) std::this_thread::sleep_for(1ms);
  }

  /// The run again where it stopped: resumed, or begun where nothing of it is there.
  Arguments command_again(const std::string& outdir, const Arguments& more) const {
    if (!fs::exists(out(outdir) / "training_options.json")) return command(outdir, more);
    return {command("").front(), "--resume", out(outdir).string()};
  }

  std::ptrdiff_t folders_in(const std::string& outdir) const {
    return std::distance(fs::directory_iterator(out(outdir)), fs::directory_iterator());
  }

  std::string predictor(const std::string& outdir) const { return read_file(out(outdir) / "predictor.json"); }

  /// The run's predictor when nothing disturbs it.
  std::string undisturbed(const Arguments& more = {}) const {
    const auto ended = run("undisturbed", more);
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    return predictor("undisturbed");
  }

  void expect_refused(const Arguments& more, const std::string& reason, const Environment& environment = {}) const {
    const auto before = contents(folder_.path());
    const auto ended = run("refused", more, environment);
    EXPECT_THAT(ended.exit_code, ::testing::AnyOf(1, 2)) << reason;
    EXPECT_EQ(std::count(ended.errors.begin(), ended.errors.end(), '\n'), 1) << ended.errors;
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr(reason));
    EXPECT_EQ(contents(folder_.path()), before) << reason;
  }

  TemporaryFolder folder_, logs_;
};

TEST_F(TrainProgram, LeavesEverythingThatItPromises) {
  const auto ended =
      run("run", {"--loss_metric", "features", "--detector", out("features.ts").string(), "--total_kimg", "0.042"});
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_THAT(ended.output, HasSubstr("run"));
  const auto spec = read_predictor(out("run") / "predictor.json");
  EXPECT_EQ(spec.num_parameters(), 24U);
  EXPECT_EQ(spec.label_dim, 4);
  std::istringstream lines(read_file(out("run") / "stats.jsonl"));
  std::string line;
  int ticks = 0;
  for (; std::getline(lines, line); ++ticks) {
    auto json = JsonReader::parse(line, "stats.jsonl");
    EXPECT_EQ(json.integer("tick", 0, 100), ticks + 1);
    EXPECT_EQ(json.integer("iteration", 0, 100), std::min(2 * (ticks + 1), 7));  // the last tick is half a one
    EXPECT_EQ(json.numbers("loss").size(), 3U);  // an unknown dataset is trained per step
  }
  EXPECT_EQ(ticks, 4);
  const auto preview = decode_png(read_file(out("run") / "preview.png"), "preview.png");
  EXPECT_EQ(preview.height, 2 * 8);
  EXPECT_EQ(preview.width, 6 * 8);
  for (const char* name : {"training_options.json", "state.bin", "log.txt"}) EXPECT_TRUE(fs::exists(out("run") / name));
}

TEST_F(TrainProgram, LearnsTheSameForAnyNumberOfProcessesAndAnyPasses) {
  const auto detector = out("features.ts").string();
  const Arguments variants[]{
      {"--objective", "per_step"},
      {"--objective", "end_to_end"},
      {"--sampler_stu", "ns"},
      {"--objective", "per_step", "--loss_metric", "features", "--detector", detector},
      {"--objective", "end_to_end", "--loss_metric", "l2+features", "--alpha", "0.03", "--detector", detector}};
  std::set<std::string> predictors;
  for (Arguments more : variants) {
    SCOPED_TRACE(::testing::PrintToString(more));
    const auto name = text("variant", predictors.size(), "-");
    const auto expected = undisturbed(more);
    predictors.insert(expected);
    fs::remove_all(out("undisturbed"));
    const bool l2 = more.size() == 2;
    for (const int size : l2 ? std::vector{2, 4} : std::vector{3}) {
      run_by(size, text(name, size), more);
      EXPECT_EQ(predictor(text(name, size)), expected) << size << " processes";
    }
    more.insert(more.end(), {"--batch_gpu", "4"});
    EXPECT_EQ(run(name + "passes", more).exit_code, 0);
    EXPECT_EQ(predictor(name + "passes"), expected);
  }
  EXPECT_EQ(predictors.size(), std::size(variants));
}

/// Five times in a run of 60 ticks, at moments that are drawn anew in every test run.
TEST_F(TrainProgram, StoppedOrKilledAtAnyMomentItGoesOnToTheSamePredictor) {
  const Arguments longer{"--total_kimg", "0.36", "--tick", "0.006"};
  const auto expected = undisturbed(longer);
  const auto seed = std::random_device{}();
  std::mt19937 random(seed);
  for (const int signal : {SIGKILL, SIGTERM}) {
    const std::string name = signal == SIGKILL ? "killed" : "stopped";
    SCOPED_TRACE(text(name, ", random seed ", seed));
    for (int moment = 0; moment < 5; ++moment) {
      const auto before = ticks(name);
      auto child = start(command_again(name, longer));
      // The first one comes while the program is still starting.
      if (moment > 0) await_ticks(child, name, before + static_cast<std::ptrdiff_t>(random() % 8));
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % (moment == 0 ? 200 : 20)));
      child.signal(signal);
      const auto ended = child.wait(60s);
      EXPECT_EQ(ended.exit_code, 128 + signal) << ended.errors;
    }
    EXPECT_FALSE(fs::exists(out(name) / "predictor.json"));
    const auto last = start(command_again(name, longer)).wait(120s);
    EXPECT_EQ(last.exit_code, 0) << last.errors;
    EXPECT_EQ(predictor(name), expected);
    EXPECT_EQ(ticks(name), 60);
    for (const auto& entry : fs::directory_iterator(out(name)))
      EXPECT_FALSE(is_temporary_name(entry.path().filename().string()));
  }
}

/// The same command each time, killed at moments that are drawn anew, alone and by two processes: one run, one result.
TEST_F(TrainProgram, WithResumeAutoOneCommandStartsARunAndGoesOnWithIt) {
  const Arguments again{"--total_kimg", "0.36",     "--tick", "0.006",  "--nosubdir",
                        "False",        "--resume", "auto",   "--desc", "x"};
  const auto expected = undisturbed({"--total_kimg", "0.36"});
  const auto seed = std::random_device{}();
  std::mt19937 random(seed);
  for (const int size : {1, 2}) {
    const auto name = text("auto-", size);
    SCOPED_TRACE(text(name, ", random seed ", seed));
    const auto folder = out(name) / "00000-tiny-4-5-epd-poly7-afs-x";
    for (int moment = 0; moment < 4; ++moment) {
      const auto before = ticks(fs::relative(folder, out("")).string());
      std::vector<Child> ranks;
      const auto port = free_port();
      for (int rank = 0; rank < size; ++rank) {
        ranks.push_back(start(command(name, again), size == 1 ? Environment() : rank_variables(rank, size, port)));
      }
      await_ticks(ranks[0], fs::relative(folder, out("")).string(), before + 1 + static_cast<int>(random() % 6));
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
      for (const auto& rank : ranks) rank.signal(SIGKILL);
      for (auto& rank : ranks) EXPECT_EQ(rank.wait(60s).exit_code, 128 + SIGKILL);
    }
    run_by(size, name, again);
    EXPECT_EQ(read_file(folder / "predictor.json"), expected);
    EXPECT_EQ(folders_in(name), 1);
  }
  // What is finished is left alone, and so is a run of other options.
  fs::remove(out("auto-1/00000-tiny-4-5-epd-poly7-afs-x/predictor.json"));
  Arguments other = again;
  other.insert(other.end(), {"--lr", "0.1", "--total_kimg", "0.012"});
  run_by(1, "auto-1", other);
  run_by(1, "auto-1", other);
  EXPECT_EQ(folders_in("auto-1"), 3);
  run_by(1, "auto-1", again);
  EXPECT_EQ(folders_in("auto-1"), 3);
  EXPECT_EQ(read_file(out("auto-1/00000-tiny-4-5-epd-poly7-afs-x/predictor.json")), expected);
}

TEST_F(TrainProgram, WithResumeAutoARunInTheOutdirItselfGoesOn) {
  const auto expected = undisturbed();
  fs::remove(out("undisturbed/predictor.json"));
  fs::copy_file(out("undisturbed/state-previous.bin"), out("undisturbed/state.bin"),
                fs::copy_options::overwrite_existing);
  for (int time = 0; time < 2; ++time) {
    const auto ended = run("undisturbed", {"--resume", "auto"});
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr("resumed "));
    EXPECT_EQ(predictor("undisturbed"), expected);
  }
}

TEST_F(TrainProgram, AFinishedRunIsMadeLongerWhereWhatItHasLearnedStands) {
  const auto longer = [&](const std::string& name, const std::string& kimg) {
    return start({command("").front(), "--resume", out(name).string(), "--total_kimg", kimg}).wait(120s);
  };
  for (const Arguments& more : {Arguments{}, Arguments{"--val_images", "4", "--val_every", "4"}}) {
    Arguments whole = more;
    whole.insert(whole.end(), {"--total_kimg", "0.078"});
    const auto expected = undisturbed(whole);
    ASSERT_EQ(run("short", more).exit_code, 0);
    if (more.empty()) {
      EXPECT_NE(predictor("short"), expected);
    }
    const auto ended = longer("short", "0.078");
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    EXPECT_EQ(predictor("short"), expected);
    // It keeps its new length.
    EXPECT_EQ(start({command("").front(), "--resume", out("short").string()}).wait(120s).exit_code, 0);
    EXPECT_EQ(predictor("short"), expected);
    fs::remove_all(out("short"));
    fs::remove_all(out("undisturbed"));
  }
  const auto detector = out("features.ts").string();
  for (const auto& [more, reason] : std::map<Arguments, std::string>{
           {{"--coslr"}, "with --coslr the learning rate so far depends on it"},
           {{"--loss_metric", "l2+features", "--detector", detector, "--alpha", "0.03", "--alpha_from", "0.5"},
            "with --alpha_from"},
           {{"--val_images", "4", "--val_every", "3"}, "its last validation, after iteration 8,"}}) {
    ASSERT_EQ(run("fixed", more).exit_code, 0);
    const auto before = predictor("fixed");
    const auto ended = longer("fixed", "0.09");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_EQ(error_lines(ended.errors), 1);
    EXPECT_THAT(ended.errors, HasSubstr("has --total_kimg 0.048 and cannot go on with 0.09"));
    EXPECT_THAT(ended.errors, HasSubstr(reason));
    EXPECT_EQ(predictor("fixed"), before);
    fs::remove_all(out("fixed"));
  }
}

TEST_F(TrainProgram, AWholePlanGoesOnToTheSamePredictor) {
  const Arguments plan{"--sampler_stu", "ns", "--coslr"};
  const auto expected = undisturbed(plan);
  fs::remove(out("undisturbed/predictor.json"));
  fs::copy_file(out("undisturbed/state-previous.bin"), out("undisturbed/state.bin"),
                fs::copy_options::overwrite_existing);
  const auto resumed = start({command("").front(), "--resume", out("undisturbed").string()}).wait(120s);
  EXPECT_EQ(resumed.exit_code, 0) << resumed.errors;
  EXPECT_EQ(predictor("undisturbed"), expected);
  EXPECT_EQ(read_predictor(out("undisturbed/predictor.json")).kind(), StudentKind::kNs);
  EXPECT_TRUE(fs::exists(out("undisturbed/preview.png")));
}

TEST_F(TrainProgram, IsNotBegunAnewWhereARunWasKilled) {
  undisturbed();
  fs::rename(out("undisturbed"), out("refused"));
  fs::remove(out("refused") / "state.bin");  // as between the renames of a new state
  expect_refused({}, "already holds a training run");
}

/// torchrun starts the same command again: it goes on with its own run and does not begin another.
TEST_F(TrainProgram, RestartedByTorchrunItGoesOnToTheSamePredictor) {
  if (start({EPD_PYTHON, "-c", "import torch.distributed.run"}).wait(120s).exit_code != 0) GTEST_SKIP();
  const auto whole = undisturbed({"--total_kimg", "0.48"});
  for (const char* processes : {"1", "2"}) {
    const auto outdir = text("restarted-", processes);
    const auto mark = out(text("killed-", processes)).string();
    // Rank 0 is killed once, when there is a state to go on from. (In a file, since torchrun expands "$$".)
    write_file(out("once.sh"), "if [ $RANK = 0 ] && ! [ -e " + mark + " ]; then (until [ -s " + out(outdir).string() +
                                   "/*/stats.jsonl ]; do sleep 0.01; done; touch " + mark + "; kill -9 $$) & fi\n" +
                                   "exec \"$@\"\n");
    Arguments line{EPD_PYTHON, "-m", "torch.distributed.run", "--standalone", "--max_restarts=2"};
    for (const char* word : {"--nproc_per_node", processes, "--no-python", "sh"}) line.push_back(word);
    line.push_back(out("once.sh").string());
    const auto train = command(outdir, {"--nosubdir", "False", "--total_kimg", "0.48"});
    line.insert(line.end(), train.begin(), train.end());
    const auto ended = start(line).wait(240s);
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;
    EXPECT_TRUE(fs::exists(mark));
    EXPECT_THAT(ended.errors, HasSubstr("resumed "));
    const auto runs = std::distance(fs::directory_iterator(out(outdir)), fs::directory_iterator());
    EXPECT_EQ(runs, 1);
    EXPECT_EQ(read_file(fs::directory_iterator(out(outdir))->path() / "predictor.json"), whole);
  }
}

TEST_F(TrainProgram, GoesOnFromTheStateBeforeADamagedOne) {
  const auto expected = undisturbed();
  const auto newest = out("undisturbed") / "state.bin";
  auto bytes = read_file(newest);
  bytes[bytes.size() / 2] ^= 1;
  write_file(newest, bytes);
  fs::remove(out("undisturbed") / "predictor.json");
  const auto resumed = start({command("").front(), "--resume", out("undisturbed").string()}).wait(120s);
  EXPECT_EQ(resumed.exit_code, 0) << resumed.errors;
  EXPECT_THAT(resumed.errors, HasSubstr("SHA-256"));
  EXPECT_EQ(predictor("undisturbed"), expected);
}

TEST_F(TrainProgram, DistancesInItsStatisticsAreThoseThatSampleFindsAndLeaveTrainingAlone) {
  const auto reference = standard_normal_reference(), detector = out("features.ts").string();
  for (const auto& ended :
       {run("curve", {"--eval_every", "3", "--fid", reference, "--eval_detector", detector, "--eval_seeds", "0-9"}),
        run("plain")}) {
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  }
  EXPECT_EQ(read_file(out("curve") / "predictor.json"), read_file(out("plain") / "predictor.json"));

  auto distances = distances_of("curve");
  ASSERT_EQ(distances.size(), 2U);  // ticks 3 and 4, the last
  ASSERT_TRUE(distances.contains(3) && distances.contains(4));
  EXPECT_NE(distances[3], distances[4]);

  const auto sampled =
      start({std::string(EPD_BINARY_DIR) + "/bin/sample", "--device", "cpu", "--model_path",
             out("denoiser.ts").string(), "--predictor_path", out("curve").string(), "--seeds", "0-9", "--chunk", "4",
             "--fid", reference, "--detector", detector, "--no_images", "--outdir", out("samples").string()})
          .wait(120s);
  ASSERT_EQ(sampled.exit_code, 0) << sampled.errors;
  EXPECT_NEAR(std::stod(sampled.output), distances[4], 1e-5 * distances[4]);
}

TEST_F(TrainProgram, ProcessesWithSharesOfUnequallyManyBatchesFindTheSameDistances) {
  const Arguments curve{
      "--eval_every", "3",   "--fid", standard_normal_reference(), "--eval_detector", out("features.ts").string(),
      "--eval_seeds", "0-12"};
  ASSERT_EQ(run("one", curve).exit_code, 0);
  const auto expected = distances_of("one");
  for (const int size : {2, 3}) {  // batches of 6: 2 and 1; 1, 1 and 1
    const auto outdir = "by" + std::to_string(size);
    run_by(size, outdir, curve);
    const auto found = distances_of(outdir);
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [tick, distance] : expected) EXPECT_NEAR(found.at(tick), distance, 1e-4 * distance) << size;
  }
}

TEST_F(TrainProgram, RefusesToResumeWithAnotherOption) {
  undisturbed();
  const auto ended = start({command("").front(), "--resume", out("undisturbed").string(), "--lr", "0.1"}).wait(60s);
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(error_lines(ended.errors), 1);
  EXPECT_THAT(ended.errors, HasSubstr("other options: lr is "));
}

TEST_F(TrainProgram, RefusesWhatCannotBe) {
  expect_refused({"--num_steps", "1"}, "num_steps");
  expect_refused({"--num_points", "0"}, "num_points");
  expect_refused({"--M", "-1"}, "M:");
  expect_refused({"--scale_dir", "1.5"}, "scale_dir");
  expect_refused({"--sampler_tea", "amed"}, "sampler_tea");
  expect_refused({"--seed", "-1"}, "seed");
  expect_refused({"--schedule_rho", "nan"}, "schedule_rho");
  expect_refused({"--schedule_type", "discrete"}, "noise table");
  expect_refused({"--no_such_option"}, "no_such_option");
  expect_refused({"--max_order_tea", "3"}, "max_order_tea");
  expect_refused({"--guidance_type", "cg"}, "classifier");
  expect_refused({"--loss_metric", "lpips"}, "lpips");
  expect_refused({"--model_path", out("absent.ts").string()}, "absent.ts");
  expect_refused({"--loss_metric", "features", "--detector", out("absent.ts").string()}, "absent.ts");
  expect_refused({"--resume", "12345"}, "12345");
  expect_refused({"--device", "cuda:99"}, "cuda:99");
  expect_refused({}, "RANK", {{"WORLD_SIZE", "2"}});
  write_file(out("text.ts"), "no model");
  expect_refused({"--model_path", out("text.ts").string()}, "text.ts");
  const auto whole = read_file(out("denoiser.ts"));
  write_file(out("short.ts"), whole.substr(0, whole.size() / 2));
  expect_refused({"--model_path", out("short.ts").string()}, "short.ts");
  write_file(out("file"), "in the way");
  expect_refused({"--outdir", out("file").string()}, "file");
}

TEST_F(TrainProgram, ADryRunWritesNothing) {
  const auto ended = run("dry", {"--dry_run"});
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_THAT(ended.output, HasSubstr("NFE (serial): 5"));
  EXPECT_FALSE(fs::exists(out("dry")));
}

TEST_F(TrainProgram, RunFoldersTakeTheLowestFreeNumber) {
  fs::create_directories(out("exp/00001-published"));
  auto arguments = command("exp");
  std::erase(arguments, "--nosubdir");
  auto one = start(arguments), two = start(arguments);
  EXPECT_EQ(one.wait(120s).exit_code, 0);
  EXPECT_EQ(two.wait(120s).exit_code, 0);
  EXPECT_TRUE(fs::exists(out("exp/00000-tiny-4-5-epd-poly7-afs/predictor.json")));
  EXPECT_TRUE(fs::exists(out("exp/00002-tiny-4-5-epd-poly7-afs/predictor.json")));
}

}  // namespace
}  // namespace epd::test
