#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>

#include "epd/files/file_lock.h"
#include "support/test_files.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

class FileLockTest : public ::testing::Test {
 protected:
  test::TemporaryFolder folder_;
  const fs::path path_ = folder_ / "lock";
};

TEST_F(FileLockTest, HasOneHolderAtATime) {
  std::optional<FileLock> first(path_);
  const FileLock second(path_);
  EXPECT_TRUE(first->acquire());
  EXPECT_TRUE(first->acquire());
  EXPECT_FALSE(second.acquire());
  first.reset();
  EXPECT_TRUE(second.acquire());
  EXPECT_TRUE(fs::exists(path_));
}

TEST_F(FileLockTest, GoesToWhomItIsMoved) {
  std::optional<FileLock> first(path_);
  EXPECT_TRUE(first->acquire());
  const FileLock moved = std::move(*first);
  first.reset();
  EXPECT_FALSE(FileLock(path_).acquire());
}

TEST_F(FileLockTest, IsNotOpenWhereNoFileCanBe) {
  const FileLock lock(folder_ / "no-folder" / "lock");
  const int reason = errno;
  EXPECT_FALSE(lock.is_open());
  EXPECT_EQ(reason, ENOENT);
}

}  // namespace
}  // namespace epd
