#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace epd {

/// Threads that take jobs in the order in which they were submitted. Its end drops the jobs that wait, and waits for
/// those that run.
class ThreadPool {
 public:
  /// on_start() runs first in every thread, in one at a time.
  explicit ThreadPool(std::size_t num_threads, std::function<void()> on_start = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// What the job returns or throws comes out of the future.
  template <class Job>
  auto submit(Job job) {
    std::packaged_task<std::invoke_result_t<Job>()> task(std::move(job));
    auto result = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      jobs_.emplace_back(std::move(task));
    }
    job_ready_.notify_one();
    return result;
  }

 private:
  void end();
  void worker_loop(const std::function<void()>& on_start);

  std::mutex mutex_;
  std::condition_variable job_ready_;
  std::deque<std::packaged_task<void()>> jobs_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace epd
