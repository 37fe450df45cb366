#include "epd/denoiser/lanes.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <atomic>
#include <exception>
#include <future>
#include <thread>
#include <vector>

namespace epd {
namespace {

/// Torch's operations on this thread use no other. The number that Torch keeps for threads to come is left as it was.
void use_single_thread() {
  const int others = at::get_num_threads();
  at::set_num_threads(1);
  std::thread([others] { at::set_num_threads(others); }).join();
}

}  // namespace

void Lanes::run(std::size_t count, const std::function<void(std::size_t)>& work) const {
  if (!on_cpu_) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < count; ++i) work(i);
    return;
  }
  const std::lock_guard one_at_a_time(one_run_);
  if (!pool_) pool_ = std::make_unique<ThreadPool>(at::get_num_threads(), use_single_thread);
  std::atomic<bool> failed{false};
  std::vector<std::future<void>> pieces;
  for (std::size_t i = 0; i < count; ++i) {
    pieces.push_back(pool_->submit([&work, &failed, i] {
      if (failed) return;
      const at::NoGradGuard no_grad;
      try {
        work(i);
      } catch (...) {
        failed = true;
        throw;
      }
    }));
  }
  for (const auto& piece : pieces) piece.wait();
  for (auto& piece : pieces) piece.get();
}

int num_lanes(at::Device device) { return device.is_cpu() ? at::get_num_threads() : 1; }

}  // namespace epd
