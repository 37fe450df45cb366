#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "epd/core/error.h"
#include "epd/distributed/environment.h"

namespace epd {
namespace {

using Values = std::map<std::string, std::string>;
using ::testing::HasSubstr;

RankEnvironment read(const Values& values) {
  return rank_environment([&](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional(found->second);
  });
}

std::string usage_error(const Values& values) {
  try {
    read(values);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no error";
}

Values torchrun() {
  return {{"RANK", "5"},
          {"LOCAL_RANK", "1"},
          {"WORLD_SIZE", "8"},
          {"MASTER_ADDR", "node0"},
          {"MASTER_PORT", "11111"},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"},
          {"TORCHELASTIC_RUN_ID", "job7"},
          {"TORCHELASTIC_RESTART_COUNT", "2"}};
}

Values without(Values values, const std::string& name) {
  values.erase(name);
  return values;
}

Values with(Values values, const std::string& name, const std::string& value) {
  values[name] = value;
  return values;
}

TEST(Environment, WithoutALauncherAProcessIsAlone) {
  const auto environment = read({});
  EXPECT_EQ(environment.rank, 0);
  EXPECT_EQ(environment.size, 1);
}

TEST(Environment, ReadsTorchrun) {
  const auto environment = read(torchrun());
  EXPECT_EQ(environment.rank, 5);
  EXPECT_EQ(environment.local_rank, 1);
  EXPECT_EQ(environment.size, 8);
  EXPECT_EQ(environment.master_address, "node0");
  EXPECT_EQ(environment.master_port, 11111);
  EXPECT_TRUE(environment.agent_store);
}

TEST(Environment, NodesThatWereRestartedDifferentlyOftenAreOneJob) {
  const auto other = read(with(torchrun(), "TORCHELASTIC_RESTART_COUNT", "3"));
  EXPECT_EQ(read(torchrun()).job, other.job);
  EXPECT_NE(read(torchrun()).restarts, other.restarts);
  EXPECT_NE(read(torchrun()).job, read(with(torchrun(), "TORCHELASTIC_RUN_ID", "job8")).job);
}

TEST(Environment, AnIpv6AddressMayStandInBrackets) {
  const auto environment = read(with(torchrun(), "MASTER_ADDR", "[fe80::1]"));
  EXPECT_EQ(environment.master_address, "fe80::1");
  EXPECT_EQ(environment.place(), "[fe80::1]:11111");
  EXPECT_EQ(read(torchrun()).place(), "node0:11111");
}

TEST(Environment, TheTimeToJoinIsSetInSeconds) {
  EXPECT_EQ(read(torchrun()).join_timeout, std::chrono::minutes(10));
  EXPECT_EQ(read(with(torchrun(), "EPD_JOIN_TIMEOUT", "45")).join_timeout, std::chrono::seconds(45));
  for (const char* value : {"0", "-1", "soon", "1e3"}) {
    EXPECT_THAT(usage_error(with(torchrun(), "EPD_JOIN_TIMEOUT", value)), HasSubstr("EPD_JOIN_TIMEOUT='"));
  }
}

TEST(Environment, AJobOfOneNeedsNoAddress) { EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).size, 1); }

TEST(Environment, OneOfRankAndWorldSizeAloneIsWrongUsage) {
  EXPECT_THAT(usage_error(without(torchrun(), "RANK")), HasSubstr("WORLD_SIZE is set but RANK is not"));
  EXPECT_THAT(usage_error(without(torchrun(), "WORLD_SIZE")), HasSubstr("RANK is set but WORLD_SIZE is not"));
  EXPECT_THAT(usage_error({{"WORLD_SIZE", "1"}}), HasSubstr("RANK is not"));
}

TEST(Environment, NumbersThatCannotBeAreNamedWithTheirVariable) {
  EXPECT_THAT(usage_error(with(torchrun(), "RANK", "8")), HasSubstr("RANK=8 is outside a job of WORLD_SIZE=8"));
  for (const char* value : {"two", "-1", "1.5", "3x", "99999999999999999999"}) {
    EXPECT_THAT(usage_error(with(torchrun(), "RANK", value)), HasSubstr(std::string("RANK='") + value + "'"));
  }
  EXPECT_THAT(usage_error(with(torchrun(), "WORLD_SIZE", "0")), HasSubstr("WORLD_SIZE='0'"));
  EXPECT_THAT(usage_error(with(torchrun(), "MASTER_PORT", "70000")), HasSubstr("MASTER_PORT='70000'"));
  EXPECT_THAT(usage_error(with(torchrun(), "LOCAL_RANK", "8")), HasSubstr("LOCAL_RANK=8"));
}

TEST(Environment, AJobOfManyNeedsAnAddressAndAPort) {
  EXPECT_THAT(usage_error(without(torchrun(), "MASTER_ADDR")), HasSubstr("MASTER_ADDR is not set"));
  EXPECT_THAT(usage_error(without(torchrun(), "MASTER_PORT")), HasSubstr("MASTER_PORT is not set"));
}

Values slurm() {
  return {{"SLURM_PROCID", "3"},  {"SLURM_LOCALID", "1"}, {"SLURM_NTASKS", "4"},
          {"SLURM_JOB_ID", "77"}, {"SLURM_STEP_ID", "0"}, {"SLURM_JOB_NODELIST", "gpu[03-05,9],big1"}};
}

TEST(Environment, ReadsSlurm) {
  const auto environment = read(slurm());
  EXPECT_EQ(environment.rank, 3);
  EXPECT_EQ(environment.local_rank, 1);
  EXPECT_EQ(environment.size, 4);
  EXPECT_EQ(environment.master_address, "gpu03");
  EXPECT_FALSE(environment.agent_store);
}

TEST(Environment, SlurmTasksAgreeOnAPortAndJobsDiffer) {
  const auto port = read(slurm()).master_port;
  EXPECT_EQ(read(with(slurm(), "SLURM_PROCID", "0")).master_port, port);
  EXPECT_NE(read(with(slurm(), "SLURM_JOB_ID", "78")).master_port, port);
  EXPECT_GE(port, 20000);
  EXPECT_LT(port, 30000);
}

TEST(Environment, TheStepCountsNotTheAllocation) {
  const auto environment = read(with(with(slurm(), "SLURM_STEP_NUM_TASKS", "8"), "SLURM_STEP_NODELIST", "gpu[05,9]"));
  EXPECT_EQ(environment.size, 8);
  EXPECT_EQ(environment.master_address, "gpu05");
}

TEST(Environment, WithoutANodeListTheLaunchingNodeServes) {
  const auto values = with(without(slurm(), "SLURM_JOB_NODELIST"), "SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7");
  EXPECT_EQ(read(values).master_address, "10.0.0.7");
}

TEST(Environment, ASlurmBatchScriptIsOneProcess) { EXPECT_EQ(read({{"SLURM_PROCID", "0"}}).size, 1); }

TEST(Environment, AShellThatSlurmOpenedIsOneProcess) {
  for (const char* name : {"interactive", "bash", "zsh"}) {
    EXPECT_EQ(read(with(with(slurm(), "SLURM_PROCID", "0"), "SLURM_JOB_NAME", name)).size, 1) << name;
  }
  const auto step = with(with(slurm(), "SLURM_STEP_NUM_TASKS", "4"), "SLURM_JOB_NAME", "bash");
  EXPECT_EQ(read(step).size, 4);                                       // srun inside of that shell
  EXPECT_EQ(read(with(step, "SLURM_STEP_ID", "4294967290")).size, 1);  // the step of salloc's shell
}

TEST(Environment, AnAddressThatIsSetWinsOverSlurms) {
  const auto environment = read(with(with(slurm(), "MASTER_ADDR", "me"), "MASTER_PORT", "4000"));
  EXPECT_EQ(environment.master_address, "me");
  EXPECT_EQ(environment.master_port, 4000);
}

TEST(Environment, FirstHostOfANodeList) {
  EXPECT_EQ(first_host("login"), "login");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("gpu[03-05,9],big1"), "gpu03");
  EXPECT_EQ(first_host("gpu[7]"), "gpu7");
  EXPECT_EQ(first_host("rack[1-2]-cool,x"), "rack1-cool");
  EXPECT_THROW(first_host("gpu["), UsageError);
}

Values open_mpi() {
  return {{"OMPI_COMM_WORLD_RANK", "1"},
          {"OMPI_COMM_WORLD_SIZE", "2"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
}

TEST(Environment, ReadsOpenMpiOnOneMachine) {
  const auto environment = read(open_mpi());
  EXPECT_EQ(environment.rank, 1);
  EXPECT_EQ(environment.size, 2);
  EXPECT_EQ(environment.master_address, "127.0.0.1");
}

TEST(Environment, OpenMpiOnSeveralMachinesNeedsAnAddress) {
  const auto values = with(open_mpi(), "OMPI_COMM_WORLD_LOCAL_SIZE", "1");
  EXPECT_THAT(usage_error(values), HasSubstr("mpirun -x MASTER_ADDR=HOST"));
  EXPECT_EQ(read(with(values, "MASTER_ADDR", "node0")).master_address, "node0");
}

TEST(Environment, ALauncherInsideSlurmWins) {
  auto values = slurm();  // mpirun or torchrun inside an allocation: each process also sees Slurm's variables
  values.merge(open_mpi());
  EXPECT_EQ(read(values).size, 2);
  values.merge(torchrun());
  EXPECT_EQ(read(values).size, 8);
}

}  // namespace
}  // namespace epd
