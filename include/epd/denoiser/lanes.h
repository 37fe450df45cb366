#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>

#include "epd/core/thread_pool.h"

namespace epd {

/// Runs independent pieces of network work. On the CPU they run side by side, each on one thread of as many as Torch
/// has been given: whole pieces keep the cores busy, where sharing every operation makes threads wait for each other at
/// each of its ends. And since a piece never shares its kernels, its numbers do not depend on the number of threads. On
/// a GPU the pieces run one after the other.
class Lanes {
 public:
  explicit Lanes(at::Device device) : on_cpu_(device.is_cpu()) {}

  /// work(0), ..., work(count - 1), without a tape; returns when all are done. Throws what the first of them threw that
  /// failed; those that had not begun by then are left out.
  void run(std::size_t count, const std::function<void(std::size_t)>& work) const;

 private:
  bool on_cpu_;
  mutable std::mutex one_run_;                // held by whoever runs
  mutable std::unique_ptr<ThreadPool> pool_;  // started with the first run
};

/// How many pieces run at once on the device.
int num_lanes(at::Device device);

}  // namespace epd
