#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "job_fixture.h"

namespace epd::test {
namespace {

/// Every collective, with 1, 2 and 4 processes: the worker compares with what must come out.
class Collectives : public JobTest, public ::testing::WithParamInterface<int> {
 protected:
  void expect_success(const std::string& scenario) const {
    const auto ranks = run(scenario, GetParam());
    expect_exit_codes(ranks, std::vector<int>(GetParam(), 0));
    EXPECT_EQ(all_errors(ranks), "");
  }
};

TEST_P(Collectives, SumsAreRightAndTheSameBitsOnAllRanks) { expect_success("sums"); }

TEST_P(Collectives, TensorsAndBytesArriveWhole) { expect_success("copies"); }

TEST_P(Collectives, TheRootIsFirst) { expect_success("root_first"); }

TEST_P(Collectives, RanksThatEndAtDifferentTimesAllEndWell) { expect_success("uneven_ends"); }

INSTANTIATE_TEST_SUITE_P(Processes, Collectives, ::testing::Values(1, 2, 4), ::testing::PrintToStringParamName());

TEST_F(JobTest, TensorsOnDevicesAreSummedThere) {
  for (const int size : {1, 2, 3}) {
    const auto ranks = run("device_sums", size);
    expect_exit_codes(ranks, std::vector<int>(static_cast<std::size_t>(size), 0));
  }
}

TEST_F(JobTest, RanksOnOneDeviceAreRefusedInOneLine) {
  const auto ranks = run("one_device", 2);
  expect_exit_codes(ranks, {2, 2});
  EXPECT_EQ(error_lines(all_errors(ranks)), 1) << all_errors(ranks);
  EXPECT_THAT(all_errors(ranks), ::testing::HasSubstr("compute on the same standin device"));
}

TEST_F(JobTest, RanksOnDevicesOfDifferentKindsAreRefused) {
  const auto ranks = run("device_and_cpu", 2);
  expect_exit_codes(ranks, {2, 2});
  EXPECT_THAT(all_errors(ranks), ::testing::HasSubstr(" on cpu; start all with one --device"));
}

TEST_F(JobTest, DifferentOptionsAreRefused) {
  const auto ranks = run("unequal", 2);
  expect_exit_codes(ranks, {1, 1});
  EXPECT_THAT(all_errors(ranks), ::testing::HasSubstr("option --batch differs between the processes: '64' on rank 0"));
}

TEST_F(JobTest, SlurmsVariablesMakeAJob) {
  const std::string id = std::to_string(free_port());
  std::vector<Child> ranks;
  for (const char* rank : {"0", "1"}) {
    ranks.push_back(start("sums", "60",
                          {{"SLURM_PROCID", rank},
                           {"SLURM_LOCALID", rank},
                           {"SLURM_NTASKS", "2"},
                           {"SLURM_JOB_ID", id},
                           {"SLURM_JOB_NODELIST", "localhost"}}));
  }
  expect_exit_codes(wait_all(ranks), {0, 0});
}

TEST_F(JobTest, AJobMeetsAtAnIpv6Address) {
  const int handle = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const bool known = bind(handle, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(handle);
  if (!known) GTEST_SKIP() << "this machine has no IPv6";
  const auto port = free_port();
  std::vector<Child> ranks;
  for (const int rank : {0, 1}) {
    auto variables = rank_variables(rank, 2, port);
    variables["MASTER_ADDR"] = "[::1]";
    ranks.push_back(start("sums", "60", variables));
  }
  expect_exit_codes(wait_all(ranks), {0, 0});
}

TEST_F(JobTest, OpenMpisVariablesMakeAJob) {
  std::vector<Child> ranks;
  for (const char* rank : {"0", "1"}) {
    ranks.push_back(start("sums", "60",
                          {{"OMPI_COMM_WORLD_RANK", rank},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", rank},
                           {"OMPI_COMM_WORLD_SIZE", "2"},
                           {"PMIX_NAMESPACE", folder_}}));
  }
  expect_exit_codes(wait_all(ranks), {0, 0});
}

}  // namespace
}  // namespace epd::test
