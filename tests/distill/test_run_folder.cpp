#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <thread>

#include "epd/core/error.h"
#include "epd/distill/run_folder.h"
#include "epd/documents/run_dir.h"
#include "epd/documents/training_state.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"
#include "support/test_files.h"

namespace epd {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TrainingState state_at(std::int64_t iteration) {
  TrainingState state;
  state.iteration = iteration;
  state.parameters = {0.1, -1.0 / 3, 1e-300};
  state.adam_mean = {1, 2, 3};
  state.adam_square = {4, 5, 6};
  state.adam_steps = 3 * iteration;
  state.seconds = 0.25;
  state.fingerprint = "{\n  \"lr\": 0.2\n}";
  return state;
}

class AState : public ::testing::Test {
 protected:
  void write(std::int64_t iteration) { write_training_state(folder_.path(), state_at(iteration)); }
  std::int64_t newest() {
    const auto state = read_training_state(folder_.path());
    return state ? state->iteration : -1;
  }
  void damage(const std::string& name) {
    auto bytes = read_file(folder_ / name);
    bytes[bytes.size() / 2] ^= 1;
    write_file(folder_ / name, bytes);
  }

  test::TemporaryFolder folder_;
};

TEST_F(AState, ComesBackAsItWasWritten) {
  EXPECT_FALSE(read_training_state(folder_.path()));
  write(4);
  EXPECT_EQ(*read_training_state(folder_.path()), state_at(4));
}

TEST_F(AState, ThatIsDamagedIsPassedOverForTheOneBefore) {
  write(1);
  write(2);
  const auto whole = read_file(folder_ / "state.bin");
  for (const auto& bytes : {std::string(), std::string("text"), whole.substr(0, whole.size() - 1), whole + " "}) {
    write_file(folder_ / "state.bin", bytes);
    EXPECT_EQ(newest(), 1) << bytes.size() << " bytes";
  }
  for (std::size_t i = 0; i < whole.size(); i += 7) {
    auto flipped = whole;
    flipped[i] ^= 4;
    write_file(folder_ / "state.bin", flipped);
    EXPECT_EQ(newest(), 1) << "byte " << i;
  }
  write_file(folder_ / "state.bin", whole);
  EXPECT_EQ(newest(), 2);
}

TEST_F(AState, ThatIsDamagedDoesNotTakeThePlaceOfAWholeOne) {
  write(1);
  write(2);
  damage("state.bin");
  write(3);
  damage("state.bin");
  EXPECT_EQ(newest(), 1);
}

TEST_F(AState, StaysWhenTheDiskIsFull) {
  write(1);
  write(2);
  {
    const test::FileSizeLimit full(16);
    EXPECT_THAT(test::error_of([&] { write(3); }), HasSubstr("state.bin"));
  }
  EXPECT_EQ(newest(), 2);
}

/// A run that has its first file.
fs::path make_run_dir(const fs::path& parent, const std::string& name) {
  const auto prepared = new_run_dir(parent);
  write_file(prepared / "state.bin", name);
  try {
    return name_run_dir(prepared, name);
  } catch (const Error&) {
    fs::remove_all(prepared);
    throw;
  }
}

TEST(RunDir, TakesTheLowestUnusedNumberWhateverStandsBehindIt) {
  const test::TemporaryFolder folder;
  const auto parent = folder / "exp";
  EXPECT_EQ(make_run_dir(parent, "one").filename(), "00000-one");
  fs::create_directories(parent / "00001-published");
  EXPECT_EQ(make_run_dir(parent, "two").filename(), "00002-two");
  fs::remove_all(parent / "00000-one");
  EXPECT_EQ(make_run_dir(parent, "two").filename(), "00000-two");
  EXPECT_EQ(find_run_dir("2", parent).filename(), "00002-two");
  EXPECT_EQ(find_run_dir((parent / "00001-published").string(), "elsewhere").filename(), "00001-published");
  EXPECT_THAT(test::error_of([&] { find_run_dir("3", parent); }), HasSubstr("no run number 3"));
}

TEST(RunDir, LeavesNothingBehindWhereItFails) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::error_of([&] { make_run_dir(folder.path(), "a/b"); }), HasSubstr("outdir"));
  EXPECT_EQ(folder.count(), 0U);
  write_file(folder / "file", "in the way");
  EXPECT_THAT(test::error_of([&] { make_run_dir(folder / "file", "run"); }), HasSubstr("outdir"));
}

TEST(RunDir, IsHiddenUntilItHasAName) {
  const test::TemporaryFolder folder;
  const auto prepared = new_run_dir(folder.path());
  EXPECT_TRUE(is_temporary_name(prepared.filename().string()));
  write_file(prepared / "state.bin", "0");
  const auto named = name_run_dir(prepared, "run");
  EXPECT_EQ(read_file(named / "state.bin"), "0");
  EXPECT_EQ(folder.count(), 1U);
}

TEST(RunDir, WhatKilledProcessesLeftGoesAndBlocksNoNumber) {
  const test::TemporaryFolder folder;
  const auto put = [&](const fs::path& path) {
    fs::create_directories(path);
    return path;
  };
  put(folder / "00000");  // claimed, by an earlier version
  write_file(put(folder / "00001") / "state.bin", "a run without a name yet");
  const auto before_lock = put(folder / ".epd-tmp-1-2"), young = put(folder / ".epd-tmp-1-3");
  fs::last_write_time(before_lock, fs::file_time_type::clock::now() - std::chrono::minutes(2));
  const auto killed = put(folder / ".epd-tmp-1-4"), alive = put(folder / ".epd-tmp-1-5");
  write_file(killed / ".lock", "process 1 on this host");
  write_file(killed / "state.bin", "0");
  const FolderLock lock(alive);
  EXPECT_EQ(make_run_dir(folder.path(), "one").filename(), "00000-one");
  EXPECT_EQ(make_run_dir(folder.path(), "two").filename(), "00002-two");
  EXPECT_EQ(find_run_dir("1", folder.path()).filename(), "00001");
  EXPECT_TRUE(fs::exists(young) && fs::exists(alive));
  EXPECT_EQ(folder.count(), 5U);
}

TEST(RunDir, StartsAtOnceGetNumbersOfTheirOwn) {
  const test::TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (char c = 'a'; c < 'e'; ++c) {
    threads.emplace_back([&, c] {
      for (int i = 0; i < 20; ++i) make_run_dir(folder.path(), text(c, i));
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::string> numbers;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    numbers.insert(entry.path().filename().string().substr(0, 6));
  }
  EXPECT_EQ(numbers.size(), 80U);
  EXPECT_EQ(*numbers.rbegin(), "00079-");
}

TEST(Stats, LinesOfWorkThatWasLostGoAndSoDoTornOnes) {
  const test::TemporaryFolder folder;
  PredictorSpec predictor;
  predictor.parameters().raw.assign(predictor.num_parameters(), 0.5);
  std::string lines;
  for (const int iteration : {2, 4, 6}) {
    TickStats stats;
    stats.iteration = iteration;
    stats.last.loss = {1, 0.5};
    lines += stats_line(stats, predictor) + "\n";
  }
  write_file(folder / "stats.jsonl", lines + "{\"iteration\": 3, \"lo");
  trim_stats(folder / "stats.jsonl", 4);
  const auto kept = read_file(folder / "stats.jsonl");
  EXPECT_EQ(std::count(kept.begin(), kept.end(), '\n'), 2);
  auto json = JsonReader::parse(kept.substr(0, kept.find('\n')), "stats.jsonl");
  for (const char* field : {"tick", "kimg", "iteration", "loss", "lr", "nonfinite_gradients", "sec_per_kimg", "seconds",
                            "peak_memory_gib", "r", "weight", "scale_dir", "scale_time"}) {
    EXPECT_TRUE(json.has(field)) << field;
  }
  EXPECT_EQ(json.matrix("weight", 3, 2), std::vector<double>(6, 0.5));
}

}  // namespace
}  // namespace epd
