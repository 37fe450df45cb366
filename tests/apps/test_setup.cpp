// The set-up script on machines that a test makes up: an own cache, an own PATH, a Python and a pip that only pretend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "distributed/job.h"
#include "epd/files/atomic_file.h"
#include "support/test_files.h"

namespace epd::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// What set-up asks of a Python. Its torch is a file; pip notes its calls, and is killed while $MACHINE/pip_is_killed.
constexpr const char* kPython = R"SH(#!/bin/sh
site=$(dirname "$0")/../lib/python3/site-packages
config=$site/torch/share/cmake/Torch/TorchConfig.cmake
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python3" ;;
  "-m pip install "*)
    echo "$*" >>"$MACHINE/pip_calls"
    mkdir -p "$(dirname "$config")"
    if [ -e "$MACHINE/pip_is_killed" ]; then touch "$site/half"; kill -9 $$; fi
    touch "$config" ;;
  "- "*) [ -e "$config" ] && echo "$site/torch" ;;
  "-c import numpy"*) [ -e "$config" ] && [ ! -e "$site/half" ] ;;
esac
)SH";

class SetUp : public ::testing::Test {
 protected:
  SetUp() {
    fs::create_directories(root_ / "cmake");
    fs::copy_file(fs::path(EPD_SOURCE_DIR) / "cmake/setup.sh", root_ / "cmake/setup.sh");
    add_tool(machine_ / "bin/python3", kPython);
  }

  void add_tool(const fs::path& path, const std::string& script) const {
    fs::create_directories(path.parent_path());
    write_file(path, script);
    fs::permissions(path, fs::perms::owner_all);
  }
  /// A virtual environment as pip leaves it, in the cache's place for LibTorch.
  void make_environment_by_hand() const {
    add_tool(environment() / "bin/python3", kPython);
    fs::create_directories(site() / "torch/share/cmake/Torch");
    write_file(site() / "torch/share/cmake/Torch/TorchConfig.cmake", "");
  }
  fs::path environment() const { return machine_ / "cache/libtorch-2.11.0"; }
  fs::path site() const { return environment() / "lib/python3/site-packages"; }

  Ended set_up(const std::string& wanted, Environment more = {}) const {
    Environment environment{{"MACHINE", machine_.path().string()},
                            {"HOME", machine_.path().string()},
                            {"EPD_CACHE", (machine_ / "cache").string()},
                            {"EPD_TORCH", ""},
                            {"Torch_DIR", ""},
                            {"PATH", (machine_ / "bin").string() + ":/usr/bin:/bin"}};
    for (const auto& [name, value] : more) environment[name] = value;
    return Child({"/bin/bash", (root_ / "cmake/setup.sh").string(), wanted}, environment, logs_.path().string())
        .wait(std::chrono::seconds(60));
  }
  int pip_calls() const {
    const auto path = machine_ / "pip_calls";
    const std::string calls = fs::exists(path) ? read_file(path) : "";
    return static_cast<int>(std::count(calls.begin(), calls.end(), '\n'));
  }
  std::string answers() const { return read_file(root_ / "build/setup.env"); }

  TemporaryFolder root_, machine_, logs_;
};

TEST_F(SetUp, InstallsTorchOnce) {
  EXPECT_EQ(set_up("python").exit_code, 0);
  EXPECT_EQ(pip_calls(), 1);
  EXPECT_THAT(read_file(machine_ / "pip_calls"), HasSubstr("torch==2.11.0 numpy"));
  EXPECT_THAT(answers(), HasSubstr("python=" + (environment() / "bin/python3").string()));
  const auto again = set_up("python");
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_EQ(again.errors, "");
  fs::remove_all(root_ / "build");  // another clone, the same cache
  EXPECT_EQ(set_up("python").exit_code, 0);
  EXPECT_EQ(pip_calls(), 1);
}

/// As the driver reports its CUDA; the torch that is installed is built for CUDA 13.
TEST_F(SetUp, SaysThatADriverIsTooOld) {
  for (const std::string driver : {"13.1", "13.0", "12.9", "9.2", "none"}) {
    fs::remove_all(machine_ / "cache");
    fs::remove_all(root_ / "build");
    add_tool(machine_ / "bin/nvidia-smi",
             "#!/bin/sh\necho '| NVIDIA-SMI 535.1   Driver Version: 535.1   CUDA Version: " + driver + "     |'\n");
    const auto done = set_up("python");
    EXPECT_EQ(done.exit_code, 0) << done.errors;
    const bool old = driver == "12.9" || driver == "9.2";
    EXPECT_EQ(done.errors.find("driver knows CUDA " + driver) != std::string::npos, old) << done.errors;
  }
}

TEST_F(SetUp, InstallsTorchAnewWhereItWasCutShort) {
  write_file(machine_ / "pip_is_killed", "");
  const auto killed = set_up("python");
  EXPECT_EQ(killed.exit_code, 1);
  EXPECT_THAT(killed.errors,
              HasSubstr("error: pip could not install torch==2.11.0 numpy; fix the problem and run the command again"));
  fs::remove(machine_ / "pip_is_killed");
  EXPECT_EQ(set_up("python").exit_code, 0);
  EXPECT_EQ(pip_calls(), 2);
  EXPECT_FALSE(fs::exists(site() / "half"));
}

TEST_F(SetUp, TakesAnEnvironmentThatWasMadeByHand) {
  make_environment_by_hand();
  write_file(site() / "something", "of the user's");
  const auto taken = set_up("python");
  EXPECT_EQ(taken.exit_code, 0) << taken.errors;
  EXPECT_EQ(pip_calls(), 0);
  EXPECT_EQ(read_file(site() / "something"), "of the user's");
}

TEST_F(SetUp, TakesTheTorchThatIsNamedBeforeAnyOther) {
  make_environment_by_hand();
  fs::rename(environment(), machine_ / "mine");
  const auto taken = set_up("python", {{"EPD_TORCH", (machine_ / "mine").string()}});
  EXPECT_EQ(taken.exit_code, 0) << taken.errors;
  EXPECT_EQ(pip_calls(), 0);
  EXPECT_THAT(answers(), HasSubstr("python=" + (machine_ / "mine/bin/python3").string()));
}

TEST_F(SetUp, RefusesATorchThatIsNone) {
  for (const auto& [variable, reason] :
       {std::pair{"EPD_TORCH", "is neither a LibTorch folder nor a Python with torch 2.7 or newer"},
        {"Torch_DIR", "holds no TorchConfig.cmake"}}) {
    const auto refused = set_up("python", {{variable, (machine_ / "nothing").string()}});
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_EQ(refused.errors, text("error: ", variable, "=", (machine_ / "nothing").string(), " ", reason, "\n"));
  }
}

TEST_F(SetUp, SaysACacheThatCannotBeWrittenInOneLine) {
  const auto refused = set_up("python", {{"EPD_CACHE", "/proc/epd"}});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.errors, "error: cannot write to /proc/epd; name another folder with EPD_CACHE\n");
}

/// The version that .ruff.toml pins, into the cache, once; another ruff on the PATH does not count.
TEST_F(SetUp, InstallsThePinnedRuffOnce) {
  for (const char* tool : {"clang-format-14", "shellcheck"}) add_tool(machine_ / "bin" / tool, "#!/bin/sh\n");
  add_tool(machine_ / "bin/ruff", "#!/bin/sh\necho ruff 0.0.1\n");
  write_file(root_ / ".ruff.toml", "required-version = \"==1.2.3\"\n");
  EXPECT_EQ(set_up("lint").exit_code, 0);
  EXPECT_THAT(read_file(machine_ / "pip_calls"), HasSubstr("ruff==1.2.3"));
  EXPECT_THAT(answers(), HasSubstr("tools_path=" + (machine_ / "cache/ruff-1.2.3/bin:").string()));
  const auto again = set_up("lint");
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_EQ(again.errors, "");
  EXPECT_EQ(pip_calls(), 1);
}

TEST_F(SetUp, GoesOnWithoutARuffThatCannotBeInstalled) {
  for (const char* tool : {"clang-format-14", "shellcheck"}) add_tool(machine_ / "bin" / tool, "#!/bin/sh\n");
  add_tool(machine_ / "bin/ruff", "#!/bin/sh\necho ruff 0.0.1\n");
  write_file(root_ / ".ruff.toml", "required-version = \"==1.2.3\"\n");
  write_file(machine_ / "pip_is_killed", "");
  const auto without = set_up("lint");
  EXPECT_EQ(without.exit_code, 0);
  EXPECT_THAT(without.errors, HasSubstr("setup: going on without ruff 1.2.3\n"));
}

/// A PATH with these tools of this machine alone.
TEST_F(SetUp, SaysOneCommandWherePackagesAreMissingAndItIsNotRoot) {
  for (const char* tool : {"awk", "bash", "cat", "dirname", "flock", "head", "mkdir", "mv", "nproc", "sort"}) {
    const auto found = fs::exists(fs::path("/usr/bin") / tool) ? "/usr/bin" : "/bin";
    fs::create_symlink(fs::path(found) / tool, machine_ / "bin" / tool);
  }
  add_tool(machine_ / "bin/id", "#!/bin/sh\necho 1000\n");
  add_tool(machine_ / "bin/apt-get", "#!/bin/sh\nexit 1\n");
  add_tool(machine_ / "bin/c++", "#!/bin/sh\necho 12\n");
  const auto refused = set_up("programs", {{"PATH", (machine_ / "bin").string()}});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.errors,
              AllOf(StartsWith("error: packages are missing; run: sudo apt-get update && sudo apt-get install -y "
                               "--no-install-recommends ninja-build pkg-config cmake"),
                    Not(HasSubstr("python3"))));
  EXPECT_EQ(std::count(refused.errors.begin(), refused.errors.end(), '\n'), 1) << refused.errors;
}

}  // namespace
}  // namespace epd::test
