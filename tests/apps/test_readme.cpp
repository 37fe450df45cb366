// What README.md says of the programs is what they say of themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "distributed/job.h"
#include "epd/files/atomic_file.h"
#include "support/test_files.h"

namespace epd::test {
namespace {

/// What the program prints for --help, its subcommands' behind its own.
std::string help_of(const std::string& program) {
  std::vector<std::vector<std::string>> commands{{"--help"}};
  if (program == "fid") commands = {{"--help"}, {"calc", "--help"}, {"ref", "--help"}, {"prepare", "--help"}};
  const TemporaryFolder logs;
  std::string help;
  for (auto command : commands) {
    command.insert(command.begin(), EPD_BINARY_DIR "/bin/" + program);
    const auto ended = Child(command, {}, logs.path().string()).wait(std::chrono::seconds(60));
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    help += ended.output;
  }
  return help.substr(0, help.find_last_not_of('\n') + 2);
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
