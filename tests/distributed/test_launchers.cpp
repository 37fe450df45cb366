// Jobs started as users start them: by the launcher of launch.sh, and by torchrun.
#include <csignal>

#include "job_fixture.h"

namespace epd::test {
namespace {

using ::testing::HasSubstr;

class Spawn : public JobTest {
 protected:
  Child spawn(int processes, const std::vector<std::string>& command) const {
    std::vector<std::string> line{EPD_SOURCE_DIR "/cmake/spawn.sh", std::to_string(processes), "1", "0", "127.0.0.1",
                                  std::to_string(free_port())};
    line.insert(line.end(), command.begin(), command.end());
    return Child(line, {{"EPD_TEST_FOLDER", folder_}}, folder_);
  }
  Child spawn_worker(int processes, const std::string& scenario, const std::string& timeout = "60") const {
    return spawn(processes, {EPD_WORKER, scenario, timeout});
  }
};

TEST_F(Spawn, StartsAJob) {
  const auto ended = spawn_worker(3, "sums").wait(kPatience);
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_EQ(ended.output, "started\nstarted\nstarted\n");
}

TEST_F(Spawn, GivesTheFirstFailuresExitCode) {
  const auto ended = spawn_worker(3, "one_throws_others_compute").wait(kPatience);
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(ended.errors, "error: rank 2: --batch: expected a positive number, got 0\n");
}

TEST_F(Spawn, NamesAKilledRank) {
  const auto ended = spawn_worker(3, "one_killed_others_compute").wait(kPatience);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.errors, HasSubstr("error: rank 2 (process "));
  EXPECT_THAT(ended.errors, HasSubstr(") was killed by signal 9"));
}

TEST_F(Spawn, StopsAProcessThatKnowsNothingOfTheOthers) {
  const auto ended = spawn(2, {"sh", "-c", "[ $RANK = 0 ] && exec sleep 100; exit 7"}).wait(kPatience);
  EXPECT_EQ(ended.exit_code, 7);
}

TEST_F(Spawn, PassesASignalOn) {
  for (const auto& [signal, exit_code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    auto job = spawn_worker(2, "wait_for_signal");
    job.await_output("started\nstarted\n");
    job.signal(signal);
    const auto ended = job.wait(kPatience);
    EXPECT_EQ(ended.exit_code, exit_code);
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
  }
}

class Torchrun : public JobTest {
 protected:
  void SetUp() override {
    const auto found = Child({EPD_PYTHON, "-c", "import torch.distributed.run"}, {}, folder_).wait(kPatience);
    if (found.exit_code != 0) GTEST_SKIP() << "this LibTorch came without torchrun";
  }
  Ended torchrun(std::vector<std::string> options, const std::string& scenario) const {
    const std::vector<std::string> program{EPD_PYTHON, "-m", "torch.distributed.run"};  // what torchrun is
    options.insert(options.begin(), program.begin(), program.end());
    options.insert(options.end(), {"--nproc_per_node=2", "--no-python", EPD_WORKER, scenario, "60"});
    return Child(options, {{"EPD_TEST_FOLDER", folder_}}, folder_).wait(kPatience);
  }
};

TEST_F(Torchrun, StandaloneJobsJoinTheAgentsStore) {
  const auto ended = torchrun({"--standalone"}, "sums");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
}

TEST_F(Torchrun, JobsWithAPortOfTheirOwn) {
  const auto ended = torchrun({"--master_port=" + std::to_string(free_port())}, "copies");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
}

TEST_F(Torchrun, AFailureSaysItsReason) {
  const auto ended = torchrun({"--standalone"}, "one_throws_others_sum");
  EXPECT_NE(ended.exit_code, 0);
  EXPECT_THAT(ended.errors, HasSubstr("error: rank 1: cannot read weights.ts"));
}

}  // namespace
}  // namespace epd::test
