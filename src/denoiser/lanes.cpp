#include "epd/denoiser/lanes.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace epd {

/// Threads that wait for work; started with the first.
struct Lanes::Pool {
  std::mutex one_run;  // held by whoever runs
  std::mutex mutex;
  std::condition_variable work_given, work_done;
  std::vector<std::thread> threads;
  const std::function<void(std::size_t)>* work = nullptr;
  std::size_t next = 0, count = 0, running = 0;
  bool closed = false;
  std::exception_ptr error;

  ~Pool() {
    {
      const std::lock_guard lock(mutex);
      closed = true;
    }
    work_given.notify_all();
    for (auto& thread : threads) thread.join();
  }

  void start() {
    const int num_threads = at::get_num_threads();
    for (int i = 0; i < num_threads; ++i) threads.emplace_back([this] { live(); });
  }

  void live() {
    const at::NoGradGuard no_grad;
    std::unique_lock lock(mutex);
    alone_with_its_kernels();
    while (true) {
      work_given.wait(lock, [this] { return closed || next < count; });
      if (closed) return;
      const std::size_t piece = next++;
      ++running;
      lock.unlock();
      std::exception_ptr failure;
      try {
        (*work)(piece);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      --running;
      if (failure && !error) error = failure;
      if (error) next = count;
      if (next >= count && running == 0) work_done.notify_all();
    }
  }

  /// Torch's operations on this thread use no other. The number that Torch keeps for threads to come is left as it was.
  static void alone_with_its_kernels() {
    const int others = at::get_num_threads();
    at::set_num_threads(1);
    std::thread([others] { at::set_num_threads(others); }).join();
  }
};

Lanes::Lanes(at::Device device) : pool_(device.is_cpu() ? std::make_unique<Pool>() : nullptr) {}
Lanes::~Lanes() = default;

void Lanes::run(std::size_t count, const std::function<void(std::size_t)>& work) const {
  if (!pool_) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < count; ++i) work(i);
    return;
  }
  Pool& pool = *pool_;
  const std::lock_guard one_at_a_time(pool.one_run);
  if (pool.threads.empty()) pool.start();
  std::unique_lock lock(pool.mutex);
  pool.work = &work;
  pool.error = nullptr;
  pool.next = 0;
  pool.count = count;
  pool.work_given.notify_all();
  pool.work_done.wait(lock, [&] { return pool.next >= pool.count && pool.running == 0; });
  pool.count = pool.next = 0;
  if (pool.error) std::rethrow_exception(pool.error);
}

int num_lanes(at::Device device) { return device.is_cpu() ? at::get_num_threads() : 1; }

}  // namespace epd
