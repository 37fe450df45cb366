// What README.md says of the programs is what they say of themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "distributed/job.h"
#include "epd/io/atomic_file.h"
#include "io/support.h"

namespace epd::test {
namespace {

std::string help_of(const std::string& program) {
  const TemporaryFolder logs;
  const auto ended =
      Child({EPD_BINARY_DIR "/bin/" + program, "--help"}, {}, logs.path().string()).wait(std::chrono::seconds(60));
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  return ended.output;
}

/// The block under <summary>PROGRAM --help</summary>.
std::string block_of(const std::string& program) {
  const auto readme = read_file(EPD_SOURCE_DIR "/README.md");
  const auto summary = readme.find("<summary>" + program + " --help</summary>");
  const auto begin = readme.find("```\n", summary) + 4, end = readme.find("```", begin);
  EXPECT_NE(summary, readme.npos) << program;
  return summary == readme.npos ? "" : readme.substr(begin, end - begin);
}

TEST(Readme, ShowsTheHelpOfEveryProgramAsItIs) {
  for (const char* program : {"train", "sample", "fid", "compare"}) EXPECT_EQ(block_of(program), help_of(program));
}

}  // namespace
}  // namespace epd::test
