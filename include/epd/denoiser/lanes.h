#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace epd {

/// Runs independent pieces of network work. On the CPU they run side by side, each on one thread of as many as Torch
/// has been given: whole pieces keep the cores busy, where sharing every operation makes threads wait for each other at
/// each of its ends. And since a piece never shares its kernels, its numbers do not depend on the number of threads. On
/// a GPU the pieces run one after the other.
class Lanes {
 public:
  explicit Lanes(at::Device device);
  ~Lanes();
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  /// work(0), ..., work(count - 1), without a tape; returns when all are done. Throws what one of them threw first.
  void run(std::size_t count, const std::function<void(std::size_t)>& work) const;

 private:
  struct Pool;
  std::unique_ptr<Pool> pool_;  // null on a GPU
};

/// How many pieces run at once on the device.
int num_lanes(at::Device device);

}  // namespace epd
