#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "epd/files/npz.h"
#include "epd/images/image.h"
#include "epd/images/png.h"
#include "sample_program.h"

namespace epd::test {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string program(const std::string& name) { return std::string(EPD_BINARY_DIR) + "/bin/" + name; }

/// The programs among inputs and surroundings that are not as they should be.
class Faults : public SampleProgram {
 protected:
  Faults() {
    for (const char* set : {"cats", "dogs"}) {
      fs::create_directories(out(set));
      for (unsigned i = 0; i < 6; ++i) write(text(set, "/", i, ".png"), encode_png(noise(16, 16, 3, i)));
    }
  }
  std::string path(const std::string& name) const { return out(name).string(); }
  Ended run_program(const std::string& name, const Arguments& arguments, const Environment& environment = {}) const {
    Arguments command{program(name)};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return start(command, environment).wait(120s);
  }
  Ended shell(const std::string& line) const { return start({"bash", "-c", line}).wait(120s); }
  Arguments ref(const Arguments& more) const {
    Arguments result{"ref", "--data", path("cats"), "--detector", "demo", "--device", "cpu"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  Arguments calc(const Arguments& more) const {
    Arguments result{"calc", "--images", path("cats"), "--ref", path("dogs"), "--detector", "demo", "--device", "cpu"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  /// One line on stderr that says `what`, this exit code, nothing on stdout, and every file as it was.
  void refuses(const std::string& name, const Arguments& arguments, int exit_code, const std::string& what,
               const Environment& environment = {}) const {
    SCOPED_TRACE(::testing::PrintToString(arguments));
    const auto before = files_below(folder_.path());
    const auto ended = run_program(name, arguments, environment);
    EXPECT_EQ(ended.exit_code, exit_code) << ended.errors;
    EXPECT_EQ(std::count(ended.errors.begin(), ended.errors.end(), '\n'), 1) << ended.errors;
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr(what));
    EXPECT_EQ(ended.output, "");
    for (const char* raw : {"json.exception", "basic_string", "std::", "filesystem error", "c10::"}) {
      EXPECT_THAT(ended.errors, Not(HasSubstr(raw)));
    }
    EXPECT_TRUE(files_below(folder_.path()) == before) << "files changed";
  }
  static std::map<std::string, std::string> files_below(const fs::path& folder) {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      result[entry.path().string()] = entry.is_regular_file() ? read_file(entry.path()) : "";
    }
    return result;
  }
  /// What the command writes to a terminal.
  static std::string on_terminal(const Arguments& command, const Environment& environment) {
    int terminal = -1;
    const pid_t id = forkpty(&terminal, nullptr, nullptr, nullptr);
    if (id == 0) {
      for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
      std::vector<char*> words;
      for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));
      words.push_back(nullptr);
      execvp(words[0], words.data());
      _exit(127);
    }
    std::string result;
    char buffer[4096];
    for (ssize_t got; (got = read(terminal, buffer, sizeof buffer)) > 0;) result.append(buffer, got);
    close(terminal);
    waitpid(id, nullptr, 0);
    return result;
  }
};

// A result that does not arrive

TEST_F(Faults, OutputThatIsLostIsAFailure) {
  const std::string sample =
      program("sample") + " --solver heun --num_steps 4 --device cpu --model_path " + model_path();
  const std::vector<std::string> printing{
      program("fid") + " calc --images " + path("cats") + " --ref " + path("dogs") + " --detector demo --device cpu",
      program("fid") + " ref --detector demo --device cpu --data " + path("cats") + " --dest " + path("s.npz"),
      program("fid") + " prepare --source " + path("cats") + " --dest " + path("s.zip"),
      sample + " --explain",
      sample + " --explain --json",
      sample + " --seeds 0-1 --outdir " + path("drawn"),
      program("train") + " --help",
      program("compare") + " --version",
      program("train") + " -n --model_path " + model_path()};
  for (const auto& command : printing) {
    SCOPED_TRACE(command);
    EXPECT_EQ(shell(command).exit_code, 0);
    for (const char* stdout_to : {" >/dev/full", " >&-"}) {
      const auto ended = shell(command + stdout_to);
      EXPECT_EQ(ended.exit_code, 1) << stdout_to;
      EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
      EXPECT_THAT(ended.errors, HasSubstr("error: cannot write to stdout: ")) << stdout_to;
    }
  }
}

TEST_F(Faults, AReaderThatLeavesEndsTheProgramQuietly) {
  const auto ended = shell(program("sample") + " --solver euler --num_steps 900 --explain --model_path " +
                           model_path() + " | head -1; exit ${PIPESTATUS[0]}");
  EXPECT_EQ(ended.exit_code, 141);
  EXPECT_EQ(ended.errors, "");
  EXPECT_EQ(std::count(ended.output.begin(), ended.output.end(), '\n'), 1);
}

TEST_F(Faults, MessagesThatNobodyReadsEndNoRun) {
  const std::string command =
      program("sample") + " --solver euler --num_steps 3 --device cpu --seeds 0-2 --model_path " + model_path();
  int number = 0;
  for (const char* stderr_to : {"2>/dev/full", "2>&-", "2> >(exec true)"}) {
    const auto folder = path(text("drawn-", number++));
    EXPECT_EQ(shell(command + " --outdir " + folder + " " + stderr_to).exit_code, 0) << stderr_to;
    EXPECT_TRUE(fs::exists(fs::path(folder) / "000000" / "000002.png")) << stderr_to;
  }
}

// Outputs among inputs

TEST_F(Faults, NoOutputOverwritesAnInput) {
  write("stats.npz", "statistics");
  fs::create_symlink(path("stats.npz"), path("link.npz"));
  fs::create_hard_link(path("stats.npz"), path("hard.npz"));
  for (const auto& spelling : {path("stats.npz"), path("cats/../stats.npz"), path("link.npz"), path("hard.npz")}) {
    refuses("fid", calc({"--ref", path("stats.npz"), "--json", spelling}), 2, "would overwrite --ref");
    refuses("fid", calc({"--images", path("stats.npz"), "--report", spelling}), 2, "would overwrite --images");
    refuses("fid", ref({"--data", path("stats.npz"), "--dest", spelling}), 2, "would overwrite --data");
  }
  refuses("fid", {"prepare", "--source", path("dogs"), "--dest", path("s.zip"), "--json", path("dogs/3.png")}, 2,
          "would overwrite a file in the folder of --source");
  refuses("fid", calc({"--report", path("dogs/2.png")}), 2, "in the folder of --ref");
  write("settings.json", "{\"quiet\": true}");
  refuses("fid", calc({"--config", path("settings.json"), "--json", path("settings.json")}), 2, "--config");
  const Arguments drawn{"--solver", "euler", "--num_steps", "3", "--model_path", model_path()};
  auto into_data = drawn;
  into_data.insert(into_data.end(), {"--outdir", path("cats/"), "--fid", path("cats")});
  refuses("sample", into_data, 2, "--outdir");
}

TEST_F(Faults, NoOutputOverwritesAnother) {
  fs::create_symlink("nowhere.json", path("to-nowhere"));
  for (const auto& [one, other] :
       {std::pair{"r.json", "r.json"}, {"r.json", "./cats/../r.json"}, {"nowhere.json", "to-nowhere"}}) {
    refuses("fid", calc({"--json", path(one), "--report", path(other)}), 2, "would overwrite --json");
  }
  refuses("fid", {"prepare", "--source", path("cats"), "--dest", path("a.zip"), "--json", path("a.zip")}, 2, "--dest");
}

TEST_F(Faults, ARecordBesideTheImagesMayBeWrittenAgain) {
  for (int i = 0; i < 2; ++i) EXPECT_EQ(run_program("fid", calc({"--json", path("cats/scores.json")})).exit_code, 0);
}

TEST_F(Faults, ImagesAndRunsDoNotGoBesideOtherData) {
  fs::create_directories(path("model"));
  fs::copy(model_path(), path("model/denoiser.ts"));
  fs::create_directories(path("classes/tabby"));
  fs::copy(path("cats/1.png"), path("classes/tabby/1.png"));
  for (const char* folder : {"dogs", "model", "classes"}) {
    refuses("sample",
            {"--solver", "euler", "--num_steps", "3", "--seeds", "0-1", "--model_path", model_path(), "--outdir",
             path(folder)},
            1, "holds other data");
    if (folder == std::string("classes")) continue;  // a run adds no images below
    refuses("train",
            {"--nosubdir", "--model_path", model_path(), "--total_kimg", "0.01", "--batch", "2", "--loss_metric", "l2",
             "--outdir", path(folder)},
            1, "holds other data");
  }
}

TEST_F(Faults, ComparisonsOfOtherOptionsDoNotReplaceEachOther) {
  const auto compare = [&](const Arguments& more) {
    Arguments arguments{
        "--model_path", model_path(),     "--seeds",    "0-5",  "--solvers", "euler", "--schedules", "logsnr",
        "--exact",      "euler@logsnr#6", "--detector", "demo", "--device",  "cpu",   "--outdir",    path("table")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  ASSERT_EQ(run_program("compare", compare({})).exit_code, 0);
  EXPECT_EQ(run_program("compare", compare({"--batch", "3"})).exit_code, 0);
  refuses("compare", compare({"--seeds", "1-6"}), 1, "seeds is \"0-5\" there and \"1-6\" here");
  refuses("compare", compare({"--nfe", "4"}), 1, "--overwrite");
  EXPECT_EQ(run_program("compare", compare({"--nfe", "4", "--overwrite"})).exit_code, 0);
  EXPECT_EQ(run_program("compare", compare({"--nfe", "4"})).exit_code, 0);
  fs::remove(path("table/settings.json"));
  refuses("compare", compare({"--nfe", "4"}), 1, "no settings.json");
}

// Names that are not UTF-8, and other surroundings

TEST_F(Faults, NamesOfFilesMayBeAnyBytes) {
  const std::string odd = "caf\xe9\xff";
  fs::rename(path("cats"), path(odd));
  fs::copy(model_path(), path(odd + ".ts"));
  const auto scored =
      run_program("fid", calc({"--images", path(odd), "--json", path("r.json"), "--report", path("r.html")}));
  EXPECT_EQ(scored.exit_code, 0) << scored.errors;
  EXPECT_EQ(nlohmann::json::parse(read_file(path("r.json")))["options"]["images"], path("caf\xef\xbf\xbd\xef\xbf\xbd"));
  EXPECT_EQ(
      run_program("fid", {"prepare", "--source", path(odd), "--dest", path(odd + ".zip"), "--json", path("p.json")})
          .exit_code,
      0);
  EXPECT_TRUE(nlohmann::json::accept(read_file(path("p.json"))));
  const auto drawn =
      run_program("sample", {"--solver", "euler", "--num_steps", "3", "--seeds", "0-1", "--device", "cpu", "--json",
                             "--model_path", path(odd + ".ts"), "--outdir", path("drawn" + odd)});
  EXPECT_EQ(drawn.exit_code, 0) << drawn.errors;
  EXPECT_TRUE(nlohmann::json::accept(drawn.output));
  const auto trained =
      run_program("train", {"--nosubdir", "--model_path", path(odd + ".ts"), "--total_kimg", "0.002", "--batch", "2",
                            "--loss_metric", "l2", "--device", "cpu", "--outdir", path("run" + odd)});
  EXPECT_EQ(trained.exit_code, 0) << trained.errors;
  EXPECT_TRUE(nlohmann::json::accept(read_file(path("run" + odd + "/training_options.json"))));
}

TEST_F(Faults, OtherWordsAreUtf8) {
  const Arguments drawn{"--solver", "euler", "--num_steps", "3", "--model_path", model_path(), "--outdir", path("d")};
  auto prompted = drawn;
  prompted.insert(prompted.end(), {"--prompt",
                                   "a \xff"
                                   "ox"});
  refuses("sample", prompted, 2, "--prompt: expected UTF-8 text");
  refuses("train", {"--model_path", model_path(), "--desc", "\xc3(", "--outdir", path("d")}, 2,
          "--desc: expected UTF-8");
}

TEST_F(Faults, WhatTheSystemRefusesIsSaidInPlainWords) {
  fs::create_directories(path("settings.json"));
  refuses("sample", {"--config", path("settings.json")}, 2, "Is a directory");
  refuses("fid", calc({"--config", "."}), 2, "--config .: cannot read .");
  fs::create_symlink("gone", path("dangling"));
  for (const auto& [name, option] :
       {std::pair{"sample", "--seeds"}, {"compare", "--seeds"}, {"train", "--eval_seeds"}}) {
    Arguments arguments{"--model_path", model_path(), option, "0-3", "--outdir", path("dangling")};
    if (name == std::string("sample")) arguments.insert(arguments.end(), {"--solver", "euler"});
    if (name == std::string("compare")) arguments.insert(arguments.end(), {"--solvers", "euler", "--detector", "demo"});
    if (name == std::string("train")) arguments.insert(arguments.end(), {"--loss_metric", "l2"});
    refuses(name, arguments, 1, "it is a link to gone, which does not exist");
  }
  refuses("fid", {"prepare", "--source", fixture("images_compressed.npz").string(), "--dest", path("s.zip")}, 1,
          "TMPDIR: cannot use " + path("nowhere"), {{"TMPDIR", path("nowhere")}});
}

// Terminals

TEST_F(Faults, EscapeSequencesGoToTerminalsThatKnowThemAlone) {
  const auto written = [&](const std::string& outdir, const Environment& environment) {
    return on_terminal(
               command(outdir, {"--seeds", "0-20", "--batch", "2", "--detector", "demo", "--fid", path("nowhere.npz")}),
               environment) +
           on_terminal(command(outdir, {"--seeds", "0-20", "--batch", "2"}), environment);
  };
  EXPECT_THAT(written("a", {{"TERM", "xterm-256color"}}), AllOf(HasSubstr("\033["), HasSubstr("\r")));
  EXPECT_THAT(written("b", {{"TERM", "xterm-256color"}, {"NO_COLOR", "1"}}),
              AllOf(Not(HasSubstr("\033")), HasSubstr("\rsampling")));
  EXPECT_THAT(written("c", {{"TERM", "dumb"}, {"COLORTERM", "truecolor"}}),
              AllOf(Not(HasSubstr("\033")), Not(HasSubstr("\rsampling"))));
}

// Near misses

TEST_F(Faults, UnknownOptionsAreNamed) {
  refuses("sample", {"--sovler", "heun", "--num_steps", "3"}, 2, "error: unknown option --sovler (");
  refuses("fid", calc({"--metric", "kid"}), 2, "error: unknown option --metric (");
  refuses("train", {"--batch", "4", "exp"}, 2, "error: unknown argument 'exp' (");
}

TEST_F(Faults, UnknownDatasetsListTheKnownOnes) {
  refuses("sample", {"--solver", "euler", "--dataset_name", "cifar"}, 1, "known names: afhqv2, cifar10");
  refuses("fid", calc({"--ref", "imagenet"}), 1, "cifar10");
}

TEST_F(Faults, SizesAndExponentsThatCannotBeAreNamed) {
  for (const char* size : {"16385x2", "2x99999"}) {
    refuses("fid", {"prepare", "--source", path("cats"), "--dest", path("s.zip"), "--resolution", size}, 2,
            "resolution: expected at most");
  }
  for (const char* rho : {"1e-9", "1e300", "0.0001"}) {
    refuses("sample", {"--solver", "euler", "--explain", "--model_path", model_path(), "--schedule_rho", rho}, 2,
            "schedule_rho: ");
  }
}

TEST_F(Faults, TheCacheNeedsAPlace) {
  refuses("sample", {"--solver", "euler", "--dataset_name", "cifar10"}, 1, "EPD_CACHE",
          {{"HOME", ""}, {"EPD_CACHE", ""}});
}

TEST_F(Faults, EndingsOfNamesHaveNoCase) {
  EXPECT_EQ(run_program("fid", {"prepare", "--source", path("cats"), "--dest", path("s.Zip")}).exit_code, 0);
}

TEST_F(Faults, ScoresOfFewImagesAndFilesOfARunAreRemarkedOnAsTheyDeserve) {
  const auto ended = run_program("fid", calc({"--metrics", "kid"}));
  EXPECT_THAT(ended.errors, HasSubstr("KID of subsets of 6 images"));
  ASSERT_EQ(run("drawn", {"--seeds", "0-5", "--save_inters", "True"}).exit_code, 0);
  const auto scored = run_program("fid", calc({"--images", path("drawn")}));
  EXPECT_EQ(scored.exit_code, 0) << scored.errors;
  EXPECT_THAT(scored.errors, Not(HasSubstr("are ignored")));
}

TEST_F(Faults, ADryRunSaysAndRefusesWhatTheRunDoes) {
  const Arguments base{"-n", "--model_path", model_path(), "--loss_metric", "l2", "--outdir", path("runs")};
  const auto with = [&](const Arguments& more) {
    Arguments result = base;
    result.insert(result.end(), more.begin(), more.end());
    return result;
  };
  EXPECT_THAT(run_program("train", with({"--nosubdir"})).output, HasSubstr("folder: " + path("runs") + "\n"));
  EXPECT_THAT(run_program("train", base).output, HasSubstr("folder: " + path("runs") + "/NNNNN-"));
  refuses("train", with({"--tick", "nan"}), 2, "--tick: expected a number, got 'nan'");
  refuses("train", with({"--detector", "demo"}), 2, "detector");
  refuses("train", with({"--eval_every", "1", "--fid", path("s.npz"), "--eval_seeds", "2147483648-2147483650"}), 2,
          "eval_seeds");
  refuses("train", with({"--outdir", path("cats/0.png")}), 1, "is a file, not a folder");
  refuses("train", with({"--nosubdir", "--outdir", path("dogs")}), 1, "holds other data");
  ASSERT_EQ(run_program("train", {"--nosubdir", "--model_path", model_path(), "--total_kimg", "0.002", "--batch", "2",
                                  "--loss_metric", "l2", "--device", "cpu", "--outdir", path("runs")})
                .exit_code,
            0);
  EXPECT_THAT(run_program("train", {"-n", "--resume", path("runs")}).output,
              HasSubstr("folder: " + path("runs") + "\n"));
  refuses("train", with({"--nosubdir"}), 1, "already holds a training run");
  EXPECT_THAT(run_program("train", with({"--nosubdir", "--resume", "auto"})).output,
              HasSubstr("folder: " + path("runs") + "\n"));
  refuses("train", {"--resume", path("runs"), "--total_kimg", "more"}, 2,
          "--total_kimg: expected a number, got 'more'");
}

}  // namespace
}  // namespace epd::test
