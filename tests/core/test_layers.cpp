#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

// The rooms of the code and the direction of their includes: a room may use what stands to the right of its name. Who
// adds an edge here changes the shape of the house, and says so in README.md, "Map of the code".
namespace epd {
namespace {

namespace fs = std::filesystem;
using Rooms = std::set<std::string>;

const std::map<std::string, Rooms>& allowed_rooms() {
  static const std::map<std::string, Rooms> rooms{
      {"plan_runner.h", {}},  // a header to be copied
      {"core", {}},
      {"schedule", {"core"}},
      {"solver", {"core", "schedule"}},
      {"files", {"core"}},
      {"images", {"core", "files"}},
      {"documents", {"core", "schedule", "solver", "files"}},
      {"assets", {"core", "files"}},
      {"text", {"core", "files"}},
      {"distributed", {"core"}},
      {"denoiser", {"core", "files", "documents", "assets"}},
      {"metrics", {"core", "files", "images", "assets", "distributed", "denoiser"}},
      {"runtime", {"core", "schedule", "solver", "denoiser"}},
      {"sampling",
       {"core", "schedule", "solver", "files", "images", "documents", "assets", "text", "distributed", "denoiser",
        "metrics", "runtime"}},
      {"distill",
       {"core", "schedule", "solver", "files", "images", "documents", "assets", "text", "distributed", "denoiser",
        "metrics", "runtime", "sampling"}},
      {"evaluation",
       {"core", "schedule", "solver", "files", "images", "documents", "assets", "text", "distributed", "denoiser",
        "metrics", "runtime", "sampling", "distill"}},
  };
  return rooms;
}

const Rooms kWithoutTorch{"core", "schedule", "solver", "files", "images", "documents", "assets", "text"};
/// Their headers show no JSON, not even through another's.
const Rooms kWithoutJson{"core", "schedule", "solver", "denoiser", "runtime"};

/// What #include names, with its brackets or quotes: "<vector>" and the like.
std::vector<std::string> includes_of(const fs::path& file) {
  std::vector<std::string> includes;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const auto start = line.find_first_not_of(" \t");
    if (start == line.npos || !line.substr(start).starts_with("#include ")) continue;
    includes.push_back(line.substr(line.find_first_of("<\"", start)));
  }
  return includes;
}

bool is_torch(const std::string& include) {
  return include.starts_with("<ATen/") || include.starts_with("<torch/") || include.starts_with("<c10");
}

/// Why a file of `room` ("apps" for the programs) must not include this, or "".
std::string objection(const std::string& room, const std::string& include) {
  if (is_torch(include) && kWithoutTorch.contains(room)) return "this room knows no Torch";
  if (!include.starts_with("\"")) return "";
  if (!include.starts_with("\"epd/")) {
    return include.find('/') == include.npos ? "" : "a private header stands beside the file that includes it";
  }
  const std::string other = include.substr(5, include.find('/', 5) - 5);
  if (!allowed_rooms().contains(other)) return "there is no room " + other;
  const bool allowed = room == "apps" || room == other || allowed_rooms().at(room).contains(other);
  return allowed ? "" : room + " must not know " + other;
}

struct SourceFile {
  fs::path path;
  std::string room;
};

std::vector<SourceFile> source_files() {
  const fs::path root = EPD_SOURCE_DIR;
  std::vector<SourceFile> files;
  for (const char* folder : {"include/epd", "src", "apps"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp") continue;
      const std::string first = fs::relative(entry.path(), root / folder).begin()->string();
      files.push_back({entry.path(), std::string(folder) == "apps" ? "apps" : first});
    }
  }
  return files;
}

TEST(Layers, EveryIncludeGoesDownwards) {
  EXPECT_GT(source_files().size(), 100u);
  for (const auto& [path, room] : source_files()) {
    ASSERT_TRUE(room == "apps" || allowed_rooms().contains(room)) << path << ": in no room";
    for (const auto& include : includes_of(path)) {
      EXPECT_EQ(objection(room, include), "") << path << " includes " << include;
    }
  }
}

/// The files that include a library.
std::set<fs::path> users_of(const std::string& library) {
  std::set<fs::path> files;
  for (const auto& [path, room] : source_files()) {
    for (const auto& include : includes_of(path)) {
      if (include.starts_with("<" + library + "/") || include == "<" + library + ">") files.insert(path.filename());
    }
  }
  return files;
}

TEST(Layers, LoggingsAndJsonsLibraryAreIncludedByOneFileEach) {
  EXPECT_EQ(users_of("spdlog"), std::set<fs::path>{"log.cpp"});
  EXPECT_EQ(users_of("nlohmann"), std::set<fs::path>{"json.h"});
}

/// A stream of the standard library keeps a failing allocation to itself: text() and stream_of() throw it.
/// plan_runner.h is to be copied, and stands alone.
TEST(Layers, OnlyOneHeaderMakesStreamsOfText) {
  EXPECT_EQ(users_of("sstream"), (std::set<fs::path>{"error.h", "plan_runner.h"}));
}

/// The public headers that a file includes, itself or through another.
void collect_headers(const fs::path& file, std::set<std::string>& seen) {
  for (const auto& include : includes_of(file)) {
    const auto name = include.substr(1, include.size() - 2);
    if (name.starts_with("epd/") && seen.insert(name).second) {
      collect_headers(fs::path(EPD_SOURCE_DIR) / "include" / name, seen);
    }
  }
}

TEST(Layers, HeadersOfTheSolverAndTheDenoiserShowNoJson) {
  const auto shows_json = [](const fs::path& header) {
    std::set<std::string> seen;
    collect_headers(header, seen);
    return seen.contains("epd/files/json.h");
  };
  for (const auto& [path, room] : source_files()) {
    const bool is_public = path.string().find("/include/") != std::string::npos;
    if (is_public && kWithoutJson.contains(room)) {
      EXPECT_FALSE(shows_json(path)) << path;
    }
  }
  EXPECT_TRUE(shows_json(fs::path(EPD_SOURCE_DIR) / "include/epd/sampling/run_sample.h"));
}

TEST(Layers, TheRuleRefusesWhatItShould) {
  EXPECT_NE(objection("solver", "\"epd/files/zip.h\""), "");
  EXPECT_NE(objection("runtime", "\"epd/distill/loss.h\""), "");
  EXPECT_NE(objection("denoiser", "\"epd/solver/plan.h\""), "");
  EXPECT_NE(objection("core", "\"epd/apps/cli.h\""), "");
  EXPECT_NE(objection("files", "<ATen/ATen.h>"), "");
  EXPECT_NE(objection("solver", "<c10/core/Device.h>"), "");
  EXPECT_NE(objection("files", "\"../metrics/secret.h\""), "");
  EXPECT_EQ(objection("runtime", "<ATen/ATen.h>"), "");
  EXPECT_EQ(objection("distill", "\"epd/runtime/adjoint.h\""), "");
  EXPECT_EQ(objection("images", "\"image_sources.h\""), "");
}

TEST(Layers, NoTwoRoomsKnowEachOther) {
  for (const auto& [room, below] : allowed_rooms()) {
    for (const auto& other : below) EXPECT_FALSE(allowed_rooms().at(other).contains(room)) << room << " and " << other;
  }
}

}  // namespace
}  // namespace epd
