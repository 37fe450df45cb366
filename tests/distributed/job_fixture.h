#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "job.h"

namespace epd::test {

/// A folder for the output of the processes, gone after the test, and jobs of distributed_worker.
class JobTest : public ::testing::Test {
 protected:
  static constexpr std::chrono::seconds kPatience{240};  // only a hang lasts longer, however busy the machine

  JobTest() {
    std::string name = (std::filesystem::temp_directory_path() / "epd-job-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~JobTest() override { std::filesystem::remove_all(folder_); }

  Child start(const std::string& scenario, const std::string& timeout, Environment variables) const {
    variables["EPD_TEST_FOLDER"] = folder_;
    return Child({EPD_WORKER, scenario, timeout}, variables, folder_);
  }

  std::vector<Child> start_all(const std::string& scenario, int size, const std::string& timeout = "60") const {
    const auto port = free_port();
    std::vector<Child> ranks;
    for (int rank = 0; rank < size; ++rank) ranks.push_back(start(scenario, timeout, rank_variables(rank, size, port)));
    return ranks;
  }

  static std::vector<Ended> wait_all(std::vector<Child>& ranks) {
    std::vector<Ended> ended;
    for (auto& rank : ranks) ended.push_back(rank.wait(kPatience));
    return ended;
  }

  std::vector<Ended> run(const std::string& scenario, int size, const std::string& timeout = "60") const {
    auto ranks = start_all(scenario, size, timeout);
    return wait_all(ranks);
  }

  std::string folder_;
};

inline void expect_exit_codes(const std::vector<Ended>& ranks, const std::vector<int>& codes) {
  std::vector<int> found;
  for (const auto& rank : ranks) found.push_back(rank.exit_code);
  EXPECT_EQ(found, codes) << all_errors(ranks);
}

}  // namespace epd::test
