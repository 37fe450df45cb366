#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>

#include "cli.h"

namespace epd::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

enum class Colour { kRed, kBlue };
constexpr NameTable<Colour, 2> kColours{{{"red", Colour::kRed}, {"blue", Colour::kBlue}}};

/// A program with one option of each kind.
struct Program {
  std::unique_ptr<CLI::App> app = make_app("paint", "Paint things");
  Common common;
  int num_steps = 4;
  bool afs = false;
  Colour colour = Colour::kRed;
  std::optional<double> rate;
  std::string seeds = "0-63";
  std::vector<std::string> names;

  Program() {
    add_common(*app, common);
    app->add_option("--num_steps", num_steps, "steps")->check(CLI::Range(2, 1000));
    add_bool(*app, "--afs,-a", afs, "first step");
    add_choice(*app, "--colour", colour, kColours, "which colour");
    app->add_option("--guidance_rate", rate, "rate");
    app->add_option("--seeds", seeds, "seeds");
    app->add_option("--names", names, "names");
  }

  bool parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "paint");
    return cli::parse(*app, static_cast<int>(arguments.size()), arguments.data());
  }

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
  Program program;
  ASSERT_TRUE(program.parse({"--num-steps=7", "--guidance-rate", "-1.5"}));
  EXPECT_EQ(program.num_steps, 7);
  EXPECT_EQ(program.rate, -1.5);
}

TEST(CommandLine, DashesInValuesStay) {
  Program program;
  program.parse({"--seeds=3-9", "--names", "a-b", "c-d"});
  EXPECT_EQ(program.seeds, "3-9");
  EXPECT_THAT(program.names, ::testing::ElementsAre("a-b", "c-d"));
}

TEST(CommandLine, BooleansTakeEveryUsualWord) {
  for (const auto* yes : {"--afs=True", "--afs=true", "--afs=1", "--afs"}) {
    Program program;
    program.parse({yes});
    EXPECT_TRUE(program.afs) << yes;
  }
  for (const auto* no : {"False", "false", "0"}) {
    Program program;
    program.afs = true;
    program.parse({"--afs", no, "--num_steps", "5"});
    EXPECT_FALSE(program.afs) << no;
    EXPECT_EQ(program.num_steps, 5);
  }
  EXPECT_THAT(Program().error_of({"--afs=maybe"}), HasSubstr("--afs: expected True or False, got 'maybe'"));
}

TEST(CommandLine, BooleansStandAloneByTheirShortName) {
  Program program;
  program.parse({"-a", "--num_steps", "3"});
  EXPECT_TRUE(program.afs);
}

TEST(CommandLine, AChoiceListsItsNamesWhenTheValueIsUnknown) {
  Program program;
  program.parse({"--colour", "blue"});
  EXPECT_EQ(program.colour, Colour::kBlue);
  EXPECT_EQ(Program().error_of({"--colour=green"}), "--colour: expected red or blue, got 'green'");
}

TEST(CommandLine, WrongUsageIsOneLine) {
  for (const auto& arguments : std::vector<std::vector<const char*>>{
           {"--unknown=3"}, {"--num_steps=one"}, {"--num_steps=1"}, {"--num_steps"}, {"stray"}}) {
    const auto error = Program().error_of(arguments);
    EXPECT_THAT(error, Not(HasSubstr("no error"))) << arguments.front();
    EXPECT_THAT(error, Not(HasSubstr("\n")));
    EXPECT_THAT(error, HasSubstr("paint --help"));
  }
  EXPECT_THAT(Program().error_of({"--unknown=3"}), HasSubstr("unknown"));
}

TEST(CommandLine, TheLastOfTwoValuesCounts) {
  Program program;
  program.parse({"--num_steps=5", "--num_steps=6"});
  EXPECT_EQ(program.num_steps, 6);
}

TEST(CommandLine, AConfigFileSetsOptionsAndTheCommandLineWins) {
  const auto path = write_config("paint.json", R"({"num-steps": 9, "afs": true, "colour": "blue",
      "seeds": "7", "names": ["x", "y"], "guidance_rate": null})");
  Program program;
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
  Program program;
  program.parse({"--config", path.c_str()});
  EXPECT_EQ(program.num_steps, 9);
  EXPECT_TRUE(program.afs);
  EXPECT_EQ(program.colour, Colour::kBlue);
}

TEST(CommandLine, AnUnknownNameInAConfigFileIsRefusedWithTheFile) {
  const auto path = write_config("wrong.json", R"({"num_stepz": 9})");
  EXPECT_EQ(Program().error_of({"--config", path.c_str()}), "--config " + path + ": unknown option 'num_stepz'");
  const auto broken = write_config("broken.json", R"({"num_steps": )");
  EXPECT_THAT(Program().error_of({"--config", broken.c_str()}), HasSubstr("not a JSON object"));
  EXPECT_THAT(Program().error_of({"--config=/no/such.json"}), HasSubstr("cannot read"));
}

TEST(CommandLine, UsedOptionsAreTypedAndCanBeAConfigFile) {
  Program program;
  program.parse({"--afs", "--guidance_rate=2.5", "--names", "a", "b"});
  const auto used = used_options(*program.app);
  EXPECT_EQ(used["num_steps"], 4);
  EXPECT_EQ(used["afs"], true);
  EXPECT_EQ(used["guidance_rate"], 2.5);
  EXPECT_EQ(used["colour"], "red");
  EXPECT_EQ(used["names"], nlohmann::ordered_json({"a", "b"}));
  const auto path = write_config("used.json", used.dump());
  Program again;
  again.parse({"--config", path.c_str()});
  EXPECT_EQ(used_options(*again.app), used);
}

TEST(CommandLine, OptionsOfASubcommandFollowTheSameRules) {
  auto app = make_app("fid", "Distances");
  Common common;
  int num_images = 0;
  bool mixed = false;
  auto* calc = app->add_subcommand("calc", "Compare");
  add_common(*calc, common);
  calc->add_option("--num_images", num_images, "number");
  add_bool(*calc, "--allow_mixed_sizes", mixed, "sizes");
  const auto path = write_config("calc.json", R"({"num_images": 12, "quiet": true})");
  const std::vector<const char*> arguments{"fid", "calc", "--allow-mixed-sizes", "--config", path.c_str()};
  ASSERT_TRUE(parse(*app, static_cast<int>(arguments.size()), arguments.data()));
  EXPECT_TRUE(calc->parsed());
  EXPECT_TRUE(mixed);
  EXPECT_TRUE(common.quiet);
  EXPECT_EQ(num_images, 12);
}

TEST(Device, TheCpuIsAlwaysThereAndUnknownNamesAreRefused) {
  EXPECT_EQ(choose_device({.device = "cpu"}, 0), at::Device(at::kCPU));
  EXPECT_THROW(choose_device({.device = "gpu"}, 0), UsageError);
  EXPECT_THROW(choose_device({.device = "cuda:x"}, 0), UsageError);
  EXPECT_THROW(choose_device({.device = "cuda:99"}, 0), Error);
}

}  // namespace
}  // namespace epd::cli
