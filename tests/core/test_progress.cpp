#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "epd/core/log.h"
#include "epd/core/progress.h"

namespace epd {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

TEST(DurationText, ReadsLikeAClock) {
  EXPECT_EQ(duration_text(0.2), "0 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(7500), "2 h 05 min");
}

/// Stderr is no terminal here: plain lines, of which the last always comes.
TEST(Progress, EndsWithALineOfWhatWasDone) {
  CaptureStderr();
  {
    Progress progress("sampling", 10, "images");
    progress.skip(4);
    progress.advance(6);
    progress.note("loss 0.5");
  }
  const auto line = GetCapturedStderr();
  EXPECT_THAT(line, HasSubstr("sampling: 10/10 images"));
  EXPECT_THAT(line, HasSubstr("images/s"));
  EXPECT_THAT(line, HasSubstr("loss 0.5"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(Progress, IsSilentUnderQuietAndOnOtherProcesses) {
  CaptureStderr();
  { Progress("sampling", 10, "images", false).advance(10); }
  log::set_level(log::Level::kWarning);
  { Progress("sampling", 10, "images").advance(10); }
  log::set_level(log::Level::kInfo);
  EXPECT_EQ(GetCapturedStderr(), "");
}

TEST(Progress, SaysTheLastStateOnce) {
  CaptureStderr();
  {
    Progress progress("sampling", 4, "images");
    progress.advance(4);
    progress.finish();
  }
  const auto lines = GetCapturedStderr();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1);
}

TEST(Log, AFileThatCannotBeWrittenIsRemarkedOnOnce) {
  log::also_to_file("/dev/full");
  CaptureStderr();
  log::info("first");
  log::info("second");
  const auto lines = GetCapturedStderr();
  EXPECT_THAT(lines, HasSubstr("warning: cannot write the log: "));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 3) << lines;
}

TEST(Progress, CountsFromSeveralThreads) {
  CaptureStderr();
  {
    Progress progress("encoding", 400, "images");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 100; ++j) progress.advance();
      });
    }
    for (auto& thread : threads) thread.join();
  }
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("encoding: 400/400 images"));
}

}  // namespace
}  // namespace epd
