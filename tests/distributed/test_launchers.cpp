// Jobs started as users start them: by the launcher of launch.sh, and by torchrun.
#include <csignal>
#include <cstdlib>
#include <fstream>

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
  for (const auto& [signal, exit_code] :
       {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}, std::pair{SIGHUP, 143}, std::pair{SIGUSR1, 143}}) {
    auto job = spawn_worker(2, "wait_for_signal");
    job.await_output("started\nstarted\n");
    job.signal(signal);
    const auto ended = job.wait(kPatience);
    EXPECT_EQ(ended.exit_code, exit_code);
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
  }
}

class Launch : public JobTest {
 protected:
  /// launch.sh on a machine whose nvidia-smi says this.
  Ended launch(const std::vector<std::string>& options, const std::string& nvidia_smi = "exit 127") const {
    const auto stub = folder_ + "/nvidia-smi";
    std::ofstream(stub) << "#!/bin/sh\n" << nvidia_smi << "\n";
    std::filesystem::permissions(stub, std::filesystem::perms::owner_all);
    std::vector<std::string> line{EPD_SOURCE_DIR "/launch.sh", "sample"};
    line.insert(line.end(), options.begin(), options.end());
    line.insert(line.begin(), {"env", "-u", "CUDA_VISIBLE_DEVICES"});
    return Child(line, {{"PATH", folder_ + ":" + std::getenv("PATH")}}, folder_).wait(kPatience);
  }
  void expect_refused(const std::vector<std::string>& options, const std::string& reason) const {
    const auto ended = launch(options);
    EXPECT_EQ(ended.exit_code, 2) << ended.errors;
    EXPECT_EQ(ended.errors, "error: " + reason + "\n");
  }
};

TEST_F(Launch, WithoutAGpuThereAreNoneToCount) {
  for (const char* nvidia_smi : {"exit 127", "exit 0", "echo No devices were found; exit 6"}) {
    const auto ended = launch({"--nproc_per_node=gpu"}, nvidia_smi);
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_EQ(ended.errors, "error: --nproc_per_node=gpu: nvidia-smi lists no GPU on this machine\n");
  }
}

/// What CUDA counts: the variable up to its first entry that names none; cards, not the parts of a divided one.
TEST_F(Launch, GpusAreCountedAsCudaCountsThem) {
  const auto count = [&](const std::string& before) {
    const std::string of_launcher = "eval \"$(sed -n '/^count_gpus()/,/^}/p' " EPD_SOURCE_DIR "/launch.sh)\"; ";
    return Child({"bash", "-euo", "pipefail", "-c", before + "; " + of_launcher + "count_gpus"}, {}, folder_)
        .wait(kPatience)
        .output;
  };
  const std::string two_cards =
      "unset CUDA_VISIBLE_DEVICES; nvidia-smi() { printf 'GPU 0: H100 (UUID: a)\\n  MIG 1g.10gb     Device  0: (UUID: "
      "b)\\n"
      "  MIG 1g.10gb     Device  1: (UUID: c)\\nGPU 1: H100 (UUID: d)\\n'; }";
  EXPECT_EQ(count(two_cards), "2\n");
  for (const auto& [visible, number] : std::map<std::string, std::string>{
           {"0", "1"}, {"3,1", "2"}, {"GPU-1f,GPU-2a,GPU-3b", "3"}, {"0,-1,2", "1"}, {"-1", "0"}, {"", "0"}}) {
    EXPECT_EQ(count(two_cards + "; CUDA_VISIBLE_DEVICES='" + visible + "'"), number + "\n") << visible;
  }
}

TEST_F(Launch, HiddenGpusAreSaidToBeHidden) {
  const auto ended =
      Child({EPD_SOURCE_DIR "/launch.sh", "sample", "--nproc_per_node=gpu"}, {{"CUDA_VISIBLE_DEVICES", ""}}, folder_)
          .wait(kPatience);
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(ended.errors, "error: --nproc_per_node=gpu: CUDA_VISIBLE_DEVICES='' shows no GPU\n");
}

TEST_F(Launch, NumbersAreDecimal) {
  expect_refused({"--nnodes=08", "--node_rank=010"}, "--node_rank=10 is outside of --nnodes=8: ranks count from 0");
  expect_refused({"--nproc_per_node", "08", "--nnodes", "2"}, "--nnodes=2 needs --master_addr: the host of node 0");
  expect_refused({"--nproc_per_node=00"}, "--nproc_per_node: expected a whole number from 1, got '00'");
  expect_refused({"--nproc_per_node=0x2"}, "--nproc_per_node: expected a whole number from 1, got '0x2'");
  expect_refused({"--nproc_per_node=2", "--master_port=070000"},
                 "--master_port: expected a port from 1 to 65535, got '70000'");
}

/// What goes wrong for all processes of a job alike is said once, before they join and without joining.
TEST_F(JobTest, WrongOptionsAreReportedOnce) {
  const std::string programs = EPD_BINARY_DIR "/bin/";
  const std::vector<std::vector<std::string>> commands{
      {programs + "sample", "--explain", "--predictor_path", "absent.json"},
      {programs + "train", "--dry_run", "--dataset_name", "no-such-model"},
      {programs + "train", "--resume", "7", "--outdir", folder_},
      {programs + "fid", "calc", "--verbose", "--quiet"},
      {programs + "compare", "--device", "cuda:x"},
  };
  for (const auto& command : commands) {
    const auto ranks = run_job(2, [&](const Environment& rank) { return Child(command, rank, folder_); });
    EXPECT_GT(ranks[0].exit_code, 0);
    EXPECT_EQ(error_lines(all_errors(ranks)), 1) << all_errors(ranks);
  }
}

/// What no process sees alone: refused once all have joined, before any work, in one line.
TEST_F(JobTest, JobsThatDoNotFitTheDevicesAreReportedOnce) {
  const std::string programs = EPD_BINARY_DIR "/bin/";
  const auto refused = [&](int size, const std::vector<std::string>& command) {
    const auto ranks = run_job(size, [&](Environment rank) {
      rank["LD_PRELOAD"] = EPD_STANDIN;
      rank["STANDIN_DEVICES"] = "3";
      return Child(command, rank, folder_);
    });
    expect_exit_codes(ranks, std::vector<int>(static_cast<std::size_t>(size), 2));
    EXPECT_EQ(error_lines(all_errors(ranks)), 1) << all_errors(ranks);
    return all_errors(ranks);
  };
  EXPECT_THAT(refused(4, {programs + "sample", "--device", "standin", "--dataset_name", "demo", "--solver", "euler"}),
              HasSubstr("compute on the same standin device"));
  EXPECT_THAT(refused(2, {programs + "train", "--bench", "--dataset_name", "demo", "--outdir", folder_}),
              HasSubstr("bench: each of 2 processes"));
}

class Torchrun : public JobTest {
 protected:
  void SetUp() override {
    const auto found = Child({EPD_PYTHON, "-c", "import torch.distributed.run"}, {}, folder_).wait(kPatience);
    if (found.exit_code != 0) GTEST_SKIP() << "this LibTorch came without torchrun";
  }
  Ended torchrun(const std::vector<std::string>& options, const std::string& scenario) const {
    return start_torchrun(options, scenario).wait(kPatience);
  }
  Child start_torchrun(std::vector<std::string> options, const std::string& scenario) const {
    const std::vector<std::string> program{EPD_PYTHON, "-m", "torch.distributed.run"};  // what torchrun is
    options.insert(options.begin(), program.begin(), program.end());
    options.insert(options.end(), {"--no-python", EPD_WORKER, scenario, "60"});
    return Child(options, {{"EPD_TEST_FOLDER", folder_}}, folder_);
  }
};

TEST_F(Torchrun, StandaloneJobsJoinTheAgentsStore) {
  const auto ended = torchrun({"--standalone", "--nproc_per_node=2"}, "sums");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
}

TEST_F(Torchrun, JobsWithAPortOfTheirOwn) {
  const auto ended = torchrun({"--master_port=" + std::to_string(free_port()), "--nproc_per_node=2"}, "copies");
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
}

TEST_F(Torchrun, AFailureSaysItsReason) {
  const auto ended = torchrun({"--standalone", "--nproc_per_node=2"}, "one_throws_others_sum");
  EXPECT_NE(ended.exit_code, 0);
  EXPECT_THAT(ended.errors, HasSubstr("error: rank 1: cannot read weights.ts"));
}

TEST_F(Torchrun, AKilledWorkerCostsOneRestart) {
  for (const int processes : {1, 2}) {
    std::filesystem::remove(folder_ + "/killed");
    const auto ended =
        torchrun({"--standalone", "--max_restarts=1", "--nproc_per_node=" + std::to_string(processes)}, "killed_once");
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    EXPECT_EQ(ended.output.substr(ended.output.find("after")), "after +\n");
  }
}

/// The agents count their restarts each for itself; those of a fixed port do not even wait for each other.
TEST_F(Torchrun, AKilledWorkerOfTwoNodesCostsOneRestart) {
  const auto port = std::to_string(free_port()), fixed_port = std::to_string(free_port());
  for (const auto& rendezvous : std::vector<std::vector<std::string>>{
           {"--rdzv_backend=c10d", "--rdzv_id=7", "--rdzv_endpoint=127.0.0.1:" + port},
           {"--master_addr=127.0.0.1", "--master_port=" + fixed_port}}) {
    std::filesystem::remove(folder_ + "/killed");
    std::vector<Child> nodes;
    for (const char* node : {"0", "1"}) {
      std::vector<std::string> options{"--nnodes=2", "--node_rank", node, "--nproc_per_node=1", "--max_restarts=1"};
      options.insert(options.end(), rendezvous.begin(), rendezvous.end());
      nodes.push_back(start_torchrun(options, "killed_once"));
    }
    std::string output;
    for (auto& node : nodes) {
      const auto ended = node.wait(kPatience);
      EXPECT_EQ(ended.exit_code, 0) << ended.errors;
      output += ended.output;
    }
    EXPECT_THAT(output, HasSubstr("after +\n"));
  }
}

}  // namespace
}  // namespace epd::test
