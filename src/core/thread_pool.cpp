#include "epd/core/thread_pool.h"

#include <system_error>

#include "epd/core/error.h"

namespace epd {

ThreadPool::ThreadPool(std::size_t num_threads, std::function<void()> on_start) {
  try {
    for (std::size_t i = 0; i < num_threads; ++i) threads_.emplace_back([this, on_start] { worker_loop(on_start); });
  } catch (const std::system_error& e) {
    end();
    throw Error(text("cannot start ", num_threads, " threads: ", e.code().message()));
  } catch (...) {
    end();
    throw;
  }
}

ThreadPool::~ThreadPool() { end(); }

void ThreadPool::end() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    jobs_.clear();
  }
  job_ready_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::worker_loop(const std::function<void()>& on_start) {
  std::unique_lock lock(mutex_);
  if (on_start) on_start();
  while (true) {
    job_ready_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
    if (closed_) return;
    {
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }  // what the job holds is freed here, outside of the lock
    lock.lock();
  }
}

}  // namespace epd
