#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "job_fixture.h"

namespace epd::test {
namespace {

using ::testing::HasSubstr;

class Failures : public JobTest {
 protected:
  /// All ranks exit with this code and one line says why.
  void expect_end(const std::string& scenario, int exit_code, const std::string& reason) const {
    const auto ranks = run(scenario, 3);
    expect_exit_codes(ranks, {exit_code, exit_code, exit_code});
    EXPECT_THAT(all_errors(ranks), HasSubstr(reason));
    EXPECT_EQ(error_lines(all_errors(ranks)), 1) << all_errors(ranks);
  }

  /// A port that something else listens on.
  class TakenPort {
   public:
    TakenPort() : handle_(socket(AF_INET, SOCK_STREAM, 0)), port_(free_port()) {
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_ANY);
      address.sin_port = htons(port_);
      EXPECT_EQ(bind(handle_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
      listen(handle_, 8);
    }
    ~TakenPort() { close(handle_); }
    std::uint16_t number() const { return port_; }

   private:
    int handle_;
    std::uint16_t port_;
  };
};

TEST_F(Failures, ARankThatThrowsEndsTheJobWithItsReason) {
  expect_end("one_throws_others_sum", 1, "error: rank 2: cannot read weights.ts");
}

TEST_F(Failures, RanksWithoutCollectivesStopToo) {
  expect_end("one_throws_others_compute", 2, "error: rank 2: --batch: expected a positive number, got 0");
}

TEST_F(Failures, TheRootsReasonIsKnownToAll) { expect_end("root_throws", 1, "error: the disk is full"); }

TEST_F(Failures, ATorchErrorIsOneLine) { expect_end("torch_throws", 1, "error: rank 2: mat1 and mat2 shapes"); }

TEST_F(Failures, ARankThatLooksAtNothingIsEndedAfterAMoment) {
  expect_end("stuck_after_failure", 1, "error: rank 2: cannot read weights.ts");
}

TEST_F(Failures, AKilledRankEndsACollectiveThatNamesBoth) {
  const auto ranks = run("one_killed_others_sum", 3);
  expect_exit_codes(ranks, {1, 1, 137});
  EXPECT_THAT(all_errors(ranks), HasSubstr("'sum of gradients' of 3 processes failed: rank 2 ("));
  EXPECT_EQ(error_lines(all_errors(ranks)), 1) << all_errors(ranks);
}

TEST_F(Failures, AKilledRankEndsRanksWithoutCollectives) {
  const auto ranks = run("one_killed_others_compute", 3, "5");
  expect_exit_codes(ranks, {1, 1, 137});
  EXPECT_THAT(all_errors(ranks), HasSubstr("error: rank 2 ("));
  EXPECT_THAT(all_errors(ranks), HasSubstr("does not respond"));
}

TEST_F(Failures, AKilledRootEndsTheOthers) {
  const auto ranks = run("root_killed", 2);
  expect_exit_codes(ranks, {137, 1});
  EXPECT_THAT(all_errors(ranks), HasSubstr("the connection to the job's store is lost: rank 0 ("));
}

/// A stopped process answers nothing, and its connections stay open.
TEST_F(Failures, AStoppedRankIsNamed) {
  auto job = start_all("one_stopped_others_sum", 2, "5");
  const auto root = job[0].wait(kPatience);
  EXPECT_EQ(root.exit_code, 1);
  EXPECT_THAT(root.errors, HasSubstr("rank 1 ("));
  EXPECT_THAT(root.errors, HasSubstr("does not respond"));
}

TEST_F(Failures, AStoppedRootIsNamed) {
  auto job = start_all("root_stopped", 2, "5");
  const auto other = job[1].wait(kPatience);
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.errors, HasSubstr("the job's store no longer answers: rank 0 ("));
}

TEST_F(Failures, ACollectiveThatTakesTooLongIsNamed) {
  const auto ranks = run("one_late", 2, "4");
  expect_exit_codes(ranks, {1, 1});
  EXPECT_THAT(all_errors(ranks), HasSubstr("'sum of gradients' of 2 processes failed: not complete after 4 s"));
}

TEST_F(Failures, ASignalToOneRankStopsAllAtTheSameIteration) {
  const auto ranks = run("one_signalled", 3);
  expect_exit_codes(ranks, {143, 143, 143});
  for (const auto& rank : ranks) EXPECT_EQ(rank.output, ranks[0].output);
}

TEST_F(Failures, ASignalToOneRankStopsRanksWithoutCollectives) {
  auto job = start_all("wait_for_signal", 2);
  for (const auto& rank : job) rank.await_output("started");
  job[1].signal(SIGINT);
  expect_exit_codes(wait_all(job), {130, 130});
}

TEST_F(Failures, ATakenPortIsOneLine) {
  const TakenPort port;
  auto root = start("nothing", "60", rank_variables(0, 2, port.number()));
  const auto ended = root.wait(kPatience);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_EQ(ended.errors,
            "error: MASTER_PORT " + std::to_string(port.number()) +
                " is in use on this machine: choose another (--master_port), or stop the job that uses it\n");
}

TEST_F(Failures, APortOfAnotherProgramIsNoStore) {
  const TakenPort port;
  const auto ended = start("nothing", "3", rank_variables(1, 2, port.number())).wait(kPatience);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
  EXPECT_THAT(ended.errors, HasSubstr("no rendezvous store at 127.0.0.1:"));
}

TEST_F(Failures, MissingRanksAreNamed) {
  const auto port = free_port();
  std::vector<Child> job;
  for (const int rank : {0, 2}) job.push_back(start("nothing", "4", rank_variables(rank, 4, port)));
  const auto ranks = wait_all(job);
  expect_exit_codes(ranks, {1, 1});
  EXPECT_THAT(ranks[0].errors, HasSubstr("these ranks are missing at 127.0.0.1:" + std::to_string(port) + ": 1, 3"));
}

TEST_F(Failures, AMissingRootIsReported) {
  const auto ended = start("nothing", "2", rank_variables(1, 2, free_port())).wait(kPatience);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.errors, HasSubstr("is rank 0 running there"));
}

TEST_F(Failures, AnotherProgramsPortIsNoticedLongBeforeTheTimeToJoinEnds) {
  const TakenPort port;
  const auto ended = start("nothing", "6000", rank_variables(1, 2, port.number())).wait(std::chrono::seconds(100));
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
  EXPECT_THAT(ended.errors, HasSubstr("no rendezvous store at 127.0.0.1:"));
}

TEST_F(Failures, AHostThatIsNotKnownIsOneLineAtOnce) {
  for (const int rank : {0, 1}) {
    auto variables = rank_variables(rank, 2, free_port());
    variables["MASTER_ADDR"] = "no-such-host.invalid";
    const auto ended = start("nothing", "6000", variables).wait(std::chrono::seconds(100));
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr("'no-such-host.invalid' (MASTER_ADDR), is not known: "));
  }
}

TEST_F(Failures, TheTimeToJoinIsNotThatOfCollectives) {
  auto variables = rank_variables(0, 2, free_port());
  variables["EPD_JOIN_TIMEOUT"] = "2";
  const auto ended = start("nothing", "6000", variables).wait(std::chrono::seconds(100));
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.errors, HasSubstr("after 2 s these ranks are missing at 127.0.0.1:"));
}

TEST_F(Failures, AWaitingProcessSaysForWhomAndStopsAtASignal) {
  const std::string place = " at 127.0.0.1:";
  for (const auto& [signal, exit_code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}, std::pair{SIGHUP, 143}}) {
    auto root = start("nothing", "6000", rank_variables(0, 3, free_port()));
    auto other = start("nothing", "6000", rank_variables(1, 3, free_port()));
    root.await_output("rank 0: waiting for 2 of 3 processes (rank 1, 2)" + place);
    other.await_output("rank 1: waiting for rank 0" + place);
    for (auto* rank : {&root, &other}) {
      rank->signal(signal);
      EXPECT_EQ(rank->wait(std::chrono::seconds(20)).exit_code, exit_code);
    }
  }
}

TEST_F(Failures, ARootThatIsNotAtItsAddressSaysSoAndStopsAtASignal) {
  auto variables = rank_variables(0, 2, free_port());
  variables["MASTER_ADDR"] = "192.0.2.1";  // set aside for documentation: nobody has it
  auto root = start("nothing", "6000", variables);
  root.await_output("rank 0: waiting for the job's store at 192.0.2.1:");
  root.signal(SIGTERM);
  EXPECT_EQ(root.wait(std::chrono::seconds(20)).exit_code, 143);
  variables["EPD_JOIN_TIMEOUT"] = "2";
  const auto ended = start("nothing", "6000", variables).wait(std::chrono::seconds(100));
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.errors, HasSubstr("is MASTER_ADDR this machine?"));
}

TEST_F(Failures, ARankThatComesTwiceIsRefusedAndTheJobGoesOn) {
  const auto port = free_port();
  auto root = start("nothing", "60", rank_variables(0, 3, port));
  std::vector<Child> twins;
  for (int i = 0; i < 2; ++i) twins.push_back(start("nothing", "60", rank_variables(1, 3, port)));
  while (twins[0].runs() && twins[1].runs()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto refused = twins[twins[0].runs() ? 1 : 0].wait(kPatience);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.errors, HasSubstr("rank 1 has joined the job"));
  auto last = start("nothing", "60", rank_variables(2, 3, port));
  EXPECT_EQ(last.wait(kPatience).exit_code, 0);
  EXPECT_EQ(root.wait(kPatience).exit_code, 0);
}

TEST_F(Failures, BadVariablesAreWrongUsage) {
  const auto ended = start("nothing", "60", {{"WORLD_SIZE", "2"}}).wait(kPatience);
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(ended.errors, "error: WORLD_SIZE is set but RANK is not: set both or neither\n");
}

}  // namespace
}  // namespace epd::test
