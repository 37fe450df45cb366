#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "cli.h"
#include "epd/files/options_json.h"

namespace epd::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

enum class Colour { kRed, kBlue };
constexpr NameTable<Colour, 2> kColours{{{"red", Colour::kRed}, {"blue", Colour::kBlue}}};
constexpr const auto& names_of(Colour) { return kColours; }

/// A program with one option of each kind.
struct Painter {
  Common common;
  int num_steps = 4;
  bool afs = false;
  Colour colour = Colour::kRed;
  std::optional<double> rate;
  std::string seeds = "0-63";
  std::vector<std::string> names;
  Program program{"paint",
                  "Paint things",
                  {{"", "",
                    options_of(common)
                        .add("num_steps", num_steps, help("steps").in(between(2, 1000)))
                        .add("afs,a", afs, help("first step"))
                        .add("colour", colour, help("which colour"))
                        .add("guidance_rate", rate, help("rate"))
                        .add("seeds", seeds, help("seeds"))
                        .add("names", names, help("names"))}}};

  Painter() = default;
  Painter(const Painter&) = delete;

  bool parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "paint");
    return program.parse(static_cast<int>(arguments.size()), arguments.data()) != nullptr;
  }

  const Options& options() const { return program.commands[0].options; }

  std::string error_of(std::vector<const char*> arguments) {
    try {
      parse(std::move(arguments));
    } catch (const UsageError& e) {
      return e.what();
    }
    return "no error";
  }
};

std::string write_config(const std::string& name, const std::string& content) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path) << content;
  return path;
}

TEST(CommandLine, DashesInNamesMeanUnderscores) {
  Painter program;
  ASSERT_TRUE(program.parse({"--num-steps=7", "--guidance-rate", "-1.5"}));
  EXPECT_EQ(program.num_steps, 7);
  EXPECT_EQ(program.rate, -1.5);
}

TEST(CommandLine, DashesInValuesStay) {
  Painter program;
  program.parse({"--seeds=3-9", "--names", "a-b", "c-d"});
  EXPECT_EQ(program.seeds, "3-9");
  EXPECT_THAT(program.names, ::testing::ElementsAre("a-b", "c-d"));
}

TEST(CommandLine, BooleansTakeEveryUsualWord) {
  for (const auto* yes : {"--afs=True", "--afs=true", "--afs=1", "--afs"}) {
    Painter program;
    program.parse({yes});
    EXPECT_TRUE(program.afs) << yes;
  }
  for (const auto* no : {"False", "false", "0"}) {
    Painter program;
    program.afs = true;
    program.parse({"--afs", no, "--num_steps", "5"});
    EXPECT_FALSE(program.afs) << no;
    EXPECT_EQ(program.num_steps, 5);
  }
  EXPECT_THAT(Painter().error_of({"--afs=maybe"}), HasSubstr("--afs: expected True or False, got 'maybe'"));
}

TEST(CommandLine, BooleansStandAloneByTheirShortName) {
  Painter program;
  program.parse({"-a", "--num_steps", "3"});
  EXPECT_TRUE(program.afs);
}

TEST(CommandLine, AChoiceListsItsNamesWhenTheValueIsUnknown) {
  Painter program;
  program.parse({"--colour", "blue"});
  EXPECT_EQ(program.colour, Colour::kBlue);
  EXPECT_EQ(Painter().error_of({"--colour=green"}), "--colour: expected red or blue, got 'green'");
}

TEST(CommandLine, WrongUsageIsOneLine) {
  for (const auto& arguments : std::vector<std::vector<const char*>>{
           {"--unknown=3"}, {"--num_steps=one"}, {"--num_steps=1"}, {"--num_steps"}, {"stray"}}) {
    const auto error = Painter().error_of(arguments);
    EXPECT_THAT(error, Not(HasSubstr("no error"))) << arguments.front();
    EXPECT_THAT(error, Not(HasSubstr("\n")));
    EXPECT_THAT(error, HasSubstr("paint --help"));
  }
  EXPECT_THAT(Painter().error_of({"--unknown=3"}), HasSubstr("unknown"));
}

TEST(CommandLine, TheLastOfTwoValuesCounts) {
  Painter program;
  program.parse({"--num_steps=5", "--num_steps=6"});
  EXPECT_EQ(program.num_steps, 6);
}

TEST(CommandLine, AConfigFileSetsOptionsAndTheCommandLineWins) {
  const auto path = write_config("paint.json", R"({"num-steps": 9, "afs": true, "colour": "blue",
      "seeds": "7", "names": ["x", "y"], "guidance_rate": null})");
  Painter program;
  program.parse({"--config", path.c_str(), "--num_steps=5", "--names", "z"});
  EXPECT_EQ(program.num_steps, 5);
  EXPECT_TRUE(program.afs);
  EXPECT_EQ(program.colour, Colour::kBlue);
  EXPECT_EQ(program.seeds, "7");
  EXPECT_FALSE(program.rate.has_value());
  EXPECT_THAT(program.names, ::testing::ElementsAre("z"));
}

TEST(CommandLine, ATomlFileWorksToo) {
  const auto path = write_config("paint.toml", "num_steps = 9\nafs = true\ncolour = \"blue\"\n");
  Painter program;
  program.parse({"--config", path.c_str()});
  EXPECT_EQ(program.num_steps, 9);
  EXPECT_TRUE(program.afs);
  EXPECT_EQ(program.colour, Colour::kBlue);
}

TEST(CommandLine, AnUnknownNameInAConfigFileIsRefusedWithTheFile) {
  const auto path = write_config("wrong.json", R"({"num_stepz": 9})");
  EXPECT_EQ(Painter().error_of({"--config", path.c_str()}), "--config " + path + ": unknown option 'num_stepz'");
  const auto broken = write_config("broken.json", R"({"num_steps": )");
  EXPECT_THAT(Painter().error_of({"--config", broken.c_str()}), HasSubstr("not a JSON object"));
  EXPECT_THAT(Painter().error_of({"--config=/no/such.json"}), HasSubstr("cannot read"));
}

TEST(CommandLine, UsedOptionsAreTypedAndCanBeAConfigFile) {
  Painter program;
  program.parse({"--afs", "--guidance_rate=2.5", "--names", "a", "b"});
  const auto used = options_json(program.options());
  EXPECT_EQ(used["num_steps"], 4);
  EXPECT_EQ(used["afs"], true);
  EXPECT_EQ(used["guidance_rate"], 2.5);
  EXPECT_EQ(used["colour"], "red");
  EXPECT_EQ(used["names"], nlohmann::ordered_json({"a", "b"}));
  const auto path = write_config("used.json", used.dump());
  Painter again;
  again.parse({"--config", path.c_str()});
  EXPECT_EQ(options_json(again.options()), used);
}

TEST(CommandLine, OptionsOfASubcommandFollowTheSameRules) {
  Common common;
  int num_images = 0;
  bool mixed = false;
  Program program{"fid",
                  "Distances",
                  {{"calc", "Compare",
                    options_of(common)
                        .add("num_images", num_images, help("number"))
                        .add("allow_mixed_sizes", mixed, help("sizes"))},
                   {"ref", "Write", options_of(common)}}};
  const auto path = write_config("calc.json", R"({"num_images": 12, "quiet": true})");
  const std::vector<const char*> arguments{"fid", "calc", "--allow-mixed-sizes", "--config", path.c_str()};
  const auto* command = program.parse(static_cast<int>(arguments.size()), arguments.data());
  ASSERT_NE(command, nullptr);
  EXPECT_EQ(command->name, "calc");
  EXPECT_TRUE(mixed);
  EXPECT_TRUE(common.quiet);
  EXPECT_EQ(num_images, 12);
}

TEST(CommandLine, NumbersAreDecimalAndWithinTheirBounds) {
  Painter program;
  program.parse({"--num_steps", "010"});
  EXPECT_EQ(program.num_steps, 10);
  for (const auto* word :
       {"0x6", "6.0", "1e1", "", " 6", "+6", "99999999999999999999", "-99999999999999999999", "6b"}) {
    EXPECT_THAT(Painter().error_of({"--num_steps", word}), HasSubstr("--num_steps: expected")) << word;
  }
  EXPECT_THAT(Painter().error_of({"--num_steps=1001"}), HasSubstr("--num_steps: expected 2 to 1000, got 1001"));
  for (const auto* word : {"nan", "inf", "0x1p3", "1,5"}) {
    EXPECT_THAT(Painter().error_of({"--guidance_rate", word}), HasSubstr("expected a number, got '")) << word;
  }
  EXPECT_LT(Painter().error_of({"--num_steps", std::string(9000, '7').c_str()}).size(), 200u);
}

TEST(CommandLine, AValueInAConfigFileThatDoesNotFitIsRefusedWithTheFile) {
  const auto path = write_config("bad.json", R"({"num_steps": 1})");
  EXPECT_EQ(Painter().error_of({"--config", path.c_str()}),
            "--config " + path + ": num_steps: expected 2 to 1000, got 1");
}

TEST(Options, DescribeEachFieldOnce) {
  Painter program;
  std::set<std::string> names;
  for (const Option& option : program.options()) EXPECT_TRUE(names.insert(option.name).second) << option.name;
}

TEST(Device, TheCpuIsAlwaysThereAndUnknownNamesAreRefused) {
  EXPECT_EQ(choose_device({.device = "cpu"}, 0), at::Device(at::kCPU));
  EXPECT_THROW(choose_device({.device = "gpu"}, 0), UsageError);
  EXPECT_THROW(choose_device({.device = "cuda:x"}, 0), UsageError);
  EXPECT_THROW(choose_device({.device = "cuda:99"}, 0), Error);
}

}  // namespace
}  // namespace epd::cli
