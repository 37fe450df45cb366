// What apps/help and the README files say of the programs is true: help texts, links, commands, presets and options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <sstream>

#include "distributed/job.h"
#include "epd/files/atomic_file.h"
#include "epd/solver/solvers.h"
#include "support/test_files.h"

namespace epd::test {
namespace {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

const fs::path kRoot = EPD_SOURCE_DIR;
const char* const kPrograms[] = {"train", "sample", "fid", "compare", "check"};

/// Whether what is out of date is to be written again.
bool update() { return std::getenv("EPD_UPDATE_HELP") != nullptr; }
constexpr const char* kUpdate = " is out of date: EPD_UPDATE_HELP=1 build/bin/test_readme writes it";

/// What a command prints.
std::string output_of(const Arguments& command) {
  const TemporaryFolder logs;
  const auto ended = Child(command, {}, logs.path().string()).wait(std::chrono::seconds(60));
  EXPECT_EQ(ended.exit_code, 0) << ended.errors;
  return ended.output;
}

/// The files of apps/help, and the commands whose output they hold.
std::map<std::string, Arguments> help_commands() {
  std::map<std::string, Arguments> commands;
  for (const std::string program : kPrograms) commands[program] = {EPD_BINARY_DIR "/bin/" + program, "--help"};
  for (const std::string part : {"calc", "ref", "prepare"}) {
    commands["fid-" + part] = {EPD_BINARY_DIR "/bin/fid", part, "--help"};
  }
  return commands;
}

TEST(Help, IsWhatEveryProgramPrints) {
  for (const auto& [name, command] : help_commands()) {
    const auto path = kRoot / "apps/help" / (name + ".txt");
    const auto help = output_of(command);
    if (update()) write_file(path, help);
    EXPECT_EQ(read_file(path), help) << path << kUpdate;
  }
}

TEST(Help, HasNoOtherFiles) {
  for (const auto& file : fs::directory_iterator(kRoot / "apps/help")) {
    EXPECT_TRUE(help_commands().contains(file.path().stem())) << file.path();
  }
}

/// The README files of the project, by path below its root.
std::map<std::string, std::string> readmes() {
  std::map<std::string, std::string> texts{{"README.md", read_file(kRoot / "README.md")}};
  for (const char* folder : {"apps", "exp", "models", "tests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.path().filename() != "README.md") continue;
      texts[fs::relative(entry.path(), kRoot).string()] = read_file(entry.path());
    }
  }
  return texts;
}

/// The first group of every match.
std::vector<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match) {
    found.push_back((*match)[1]);
  }
  return found;
}

/// A heading's anchor as GitHub makes it: lower case, dashes for spaces, no punctuation.
std::string anchor_of(const std::string& heading) {
  std::string anchor;
  for (const unsigned char c : heading) {
    if (std::isalnum(c) || c == '-' || c == '_') anchor += static_cast<char>(std::tolower(c));
    if (c == ' ') anchor += '-';
  }
  return anchor;
}

std::vector<std::string> anchors_of(const std::string& markdown) {
  std::vector<std::string> anchors;
  for (const auto& heading : matches("\n" + markdown, "\n#+ ([^\n]*)")) anchors.push_back(anchor_of(heading));
  return anchors;
}

TEST(Readme, LinksLeadSomewhere) {
  EXPECT_EQ(anchor_of("Learned plans (ns)"), "learned-plans-ns");
  for (const auto& [name, markdown] : readmes()) {
    for (const auto& link : matches(markdown, R"(\]\(([^)\s]+)\))")) {
      if (link.starts_with("https://")) continue;
      const auto hash = std::min(link.find('#'), link.size());
      const auto target = hash == 0 ? kRoot / name : (kRoot / name).parent_path() / link.substr(0, hash);
      ASSERT_TRUE(fs::exists(target)) << name << ": " << link;
      if (hash == link.size()) continue;
      EXPECT_THAT(anchors_of(read_file(target)), testing::Contains(link.substr(hash + 1))) << name << ": " << link;
    }
  }
}

TEST(Readme, NamesCommandsOfTheLaunchScript) {
  const auto usage = output_of({(kRoot / "launch.sh").string(), "help"});
  std::size_t commands = 0;
  for (const auto& [name, markdown] : readmes()) {
    for (const auto& command : matches(markdown, R"(\./launch\.sh ([a-z]+))")) {
      EXPECT_THAT(usage, testing::HasSubstr("./launch.sh " + command + " ")) << name;
      ++commands;
    }
  }
  EXPECT_GT(commands, 20U);
}

TEST(Readme, NamesPresetsThatExist) {
  for (const auto& [name, markdown] : readmes()) {
    for (const auto& preset : matches(markdown, "--preset[= ]([a-z][a-z0-9_-]*)")) {
      EXPECT_TRUE(fs::exists(kRoot / "exp/presets" / (preset + ".json"))) << name << ": " << preset;
    }
  }
}

/// The commands in a README that run a program, with continued lines as one.
std::vector<std::string> program_lines(const std::string& markdown) {
  const auto joined = std::regex_replace(markdown, std::regex("\\\\\n *"), " ");
  return matches(joined, R"(\n(?:\$ | {4})?((?:\./launch\.sh|[^\n`|]*build/bin/)[^\n#]*))");
}

TEST(Readme, GivesProgramsOptionsThatTheyHave) {
  const auto launch = output_of({(kRoot / "launch.sh").string(), "help"});
  std::size_t options = 0;
  for (const auto& [name, markdown] : readmes()) {
    for (const auto& line : program_lines(markdown)) {
      const auto program = matches(line, R"((?:\./launch\.sh |build/bin/)(train|sample|compare|fid(?: [a-z]+)?))");
      if (program.empty()) continue;
      const auto help =
          read_file(kRoot / "apps/help" / (std::regex_replace(program[0], std::regex(" "), "-") + ".txt"));
      for (const auto& option : matches(line, R"((--[a-z][A-Za-z_]*|--M\b))")) {
        const bool known = help.find(option + " ") != help.npos || help.find(option + ",") != help.npos ||
                           launch.find(option) != launch.npos || line.starts_with("torchrun");
        EXPECT_TRUE(known) << name << ": " << option << " in " << line;
        ++options;
      }
    }
  }
  EXPECT_GT(options, 50U);
}

/// The lines of a file from the first that begins with `first` to the next of the same depth that begins with `last`,
/// without their indentation.
std::string excerpt(const fs::path& path, const std::string& first, const std::string& last) {
  std::istringstream lines(read_file(path));
  std::string line, found, indentation;
  while (std::getline(lines, line)) {
    const auto depth = line.find_first_not_of(' ');
    if (found.empty()) {
      if (depth == line.npos || !line.substr(depth).starts_with(first)) continue;
      indentation = line.substr(0, depth);
    }
    found += (line.starts_with(indentation) ? line.substr(indentation.size()) : line) + "\n";
    if (line.starts_with(indentation + last)) return found;
  }
  ADD_FAILURE() << path << " has no lines from '" << first << "' to '" << last << "'";
  return "";
}

/// <!-- FILE: FIRST | LAST --> stands before a block of code that is an excerpt.
TEST(Readme, ShowsCodeAsItIs) {
  const std::regex block("(<!-- (\\S+): (.*) \\| (.*) -->\n```cpp\n)([^`]*)```");
  auto markdown = read_file(kRoot / "README.md");
  std::string current;
  std::size_t blocks = 0;
  for (std::smatch found; std::regex_search(markdown, found, block); ++blocks) {
    const auto code = excerpt(kRoot / found[2].str(), found[3], found[4]);
    EXPECT_TRUE(update() || found[5] == code) << found[2] << kUpdate;
    current += found.prefix().str() + found[1].str() + code + "```";
    markdown = found.suffix().str();
  }
  EXPECT_EQ(blocks, 2U);
  if (update()) write_file(kRoot / "README.md", current + markdown);
}

TEST(Readme, ListsEverySolver) {
  std::string names;
  for (const auto& [name, kind] : kSolverNames) names += text(names.empty() ? "`" : ", `", name, "`");
  EXPECT_THAT(read_file(kRoot / "README.md"), testing::HasSubstr("Solvers: " + names + "."));
}

TEST(Readme, IsShort) {
  const auto markdown = read_file(kRoot / "README.md");
  EXPECT_LE(std::ranges::count(markdown, '\n'), 200);
}

}  // namespace
}  // namespace epd::test
