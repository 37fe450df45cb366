#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

#include "epd/core/thread_pool.h"

namespace epd {
namespace {

TEST(ThreadPool, HandsOutWhatJobsReturnAndThrow) {
  ThreadPool pool(3);
  std::vector<std::future<int>> squares;
  for (int i = 0; i < 100; ++i) squares.push_back(pool.submit([i] { return i * i; }));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(squares[static_cast<std::size_t>(i)].get(), i * i);
  auto failing = pool.submit([]() -> int { throw std::runtime_error("a job"); });
  EXPECT_THROW(failing.get(), std::runtime_error);
  EXPECT_EQ(pool.submit([] { return 7; }).get(), 7);
}

TEST(ThreadPool, StartsEveryThreadByItselfBeforeItsJobs) {
  std::atomic<int> starting{0}, started{0}, most{0};
  {
    ThreadPool pool(4, [&] {
      most = std::max(most.load(), ++starting);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      --starting;
      ++started;
    });
    pool.submit([&] { EXPECT_GE(started, 1); }).get();
  }
  EXPECT_EQ(started, 4);
  EXPECT_EQ(most, 1);
}

TEST(ThreadPool, ItsEndDropsWhatWaitsAndEndsWhatRuns) {
  std::atomic<int> begun{0}, ended{0};
  {
    ThreadPool pool(2);
    for (int i = 0; i < 100; ++i) {
      pool.submit([&] {
        ++begun;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        ++ended;
      });
    }
    while (begun == 0) std::this_thread::yield();
  }
  EXPECT_EQ(begun, ended);
  EXPECT_LT(ended, 100);
}

}  // namespace
}  // namespace epd
