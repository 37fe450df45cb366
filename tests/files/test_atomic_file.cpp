#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "epd/files/atomic_file.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::FileSizeLimit;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AtomicFile, AppearsWholeAtCommitAndNotBefore) {
  const TemporaryFolder folder;
  for (const auto durability : {Durability::kRename, Durability::kSync}) {
    write_file(folder / "x", "old");
    AtomicFile file(folder / "x", durability);
    file.append("new ");
    file.append("text");
    file.write_at(0, "NEW");
    file.append("!");
    EXPECT_EQ(read_file(folder / "x"), "old");
    file.commit();
    EXPECT_EQ(read_file(folder / "x"), "NEW text!");
    EXPECT_EQ(folder.count(), 1u);
  }
}

TEST(AtomicFile, WithoutCommitNothingChangesAndNothingIsLeft) {
  const TemporaryFolder folder;
  write_file(folder / "x", "old");
  {
    AtomicFile file(folder / "x");
    file.append("new");
    EXPECT_EQ(folder.count(), 1u) << "a process killed here leaves a file";
  }
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(read_file(folder / "x"), "old");
}

TEST(AtomicFile, TemporaryNamesAreKnownAndHidden) {
  const TemporaryFolder folder;
  const std::string name = temporary_path(folder.path()).filename().string();
  EXPECT_NE(name, temporary_path(folder.path()).filename());
  EXPECT_TRUE(is_temporary_name(name));
  EXPECT_EQ(name[0], '.');
  EXPECT_FALSE(is_temporary_name("x"));
}

TEST(AtomicFile, WhatAKilledWriterLeftCanBeRemoved) {
  const TemporaryFolder folder;
  write_file(folder / "x", "whole");
  write_file(temporary_path(folder.path()), "hal");
  EXPECT_EQ(folder.count(), 2u);
  remove_temporary_files(folder.path());
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(read_file(folder / "x"), "whole");
}

TEST(AtomicFile, DevicesPipesAndFoldersAreNotReplaced) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([] { write_file("/dev/full", "x"); }), HasSubstr("/dev/full"));
  EXPECT_THAT(error_of([] { write_file("/dev/null", "x"); }), HasSubstr("device"));
  EXPECT_THAT(error_of([&] { write_file(folder.path(), "x"); }), HasSubstr("folder"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of([&] { write_file(folder / "pipe", "x"); }), HasSubstr("pipe"));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(folder.count(), 1u);
}

TEST(AtomicFile, ASymbolicLinkStaysALinkAndItsTargetIsReplaced) {
  const TemporaryFolder folder;
  write_file(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "target"), "new");
}

TEST(AtomicFile, ErrorsNameThePathAndTheReason) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { write_file(folder / "no/such/x", "x"); }),
              AllOf(HasSubstr("no/such/x"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { read_file(folder / "none"); }), AllOf(HasSubstr("none"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { read_file(folder.path()); }), HasSubstr("directory"));
  write_file(folder / "x", "12345");
  EXPECT_THAT(error_of([&] { read_file(folder / "x", 4); }), HasSubstr("larger than 4 bytes"));
  EXPECT_EQ(read_file(folder / "x", 5), "12345");
}

TEST(AtomicFile, AFullDiskIsAnErrorThatKeepsTheOldFileAndLeavesNoRest) {
  const TemporaryFolder folder;
  write_file(folder / "x", "old");
  {
    const FileSizeLimit limit(100'000);
    EXPECT_THAT(error_of([&] { write_file(folder / "x", std::string(200'000, 'n')); }), HasSubstr("x: "));
  }
  EXPECT_EQ(read_file(folder / "x"), "old");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(AtomicFile, AKilledWriterLeavesTheOldFileOrTheNewOne) {
  const TemporaryFolder folder;
  const std::string old_bytes(100'000, 'o'), new_bytes(100'000, 'n');
  write_file(folder / "x", old_bytes);
  for (int trial = 0; trial < 20; ++trial) {
    const pid_t child = ::fork();
    if (child == 0) {
      while (true) write_file(folder / "x", new_bytes);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(trial));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string bytes = read_file(folder / "x");
    EXPECT_TRUE(bytes == old_bytes || bytes == new_bytes);
  }
}

TEST(AtomicFile, ManyThreadsMayWriteOneName) {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (char c = 'a'; c < 'e'; ++c) {
    threads.emplace_back([&, c] {
      for (int i = 0; i < 50; ++i) write_file(folder / "x", std::string(1000, c));
    });
  }
  for (auto& thread : threads) thread.join();
  const std::string bytes = read_file(folder / "x");
  EXPECT_EQ(bytes, std::string(1000, bytes[0]));
  EXPECT_EQ(folder.count(), 1u);
}

}  // namespace
}  // namespace epd
