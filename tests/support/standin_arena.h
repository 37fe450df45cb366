#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <map>
#include <utility>

namespace standin {

constexpr int kMaxDevices = 8;

/// The device addresses, without access rights, and the same bytes where kernels may touch them.
class Arena {
 public:
  Arena();
  void* take(int device, std::size_t bytes);
  /// Fills it with 0xff; it is taken again only after much else was given back.
  void give_back(void* address, std::size_t bytes);
  /// What a block of so many bytes takes: whole pages.
  static std::size_t size_of(std::size_t bytes);
  char* kernel_view(const void* address) const { return view_ + (static_cast<const char*>(address) - base_); }
  bool holds(const void* address) const;
  int device_of(const void* address) const;

 private:
  int file_;
  char *base_, *view_;
  std::array<std::size_t, kMaxDevices> taken_{};
  std::deque<std::pair<void*, std::size_t>> resting_;
  std::map<std::pair<int, std::size_t>, std::deque<void*>> free_;  // by device and size
  std::size_t resting_bytes_ = 0, free_bytes_ = 0;
};

}  // namespace standin
