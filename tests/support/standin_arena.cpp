#include "support/standin_arena.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace standin {
namespace {

constexpr std::size_t kDeviceSpan = std::size_t{1} << 40;     // addresses of a device
constexpr std::size_t kRestingBytes = std::size_t{64} << 20;  // of freed memory that is not given out again
constexpr std::size_t kFreeBytes = std::size_t{1} << 30;      // of memory that waits for someone
constexpr int kPoison = 0xff;

}  // namespace

std::size_t Arena::size_of(std::size_t bytes) {
  static const auto page = static_cast<std::size_t>(::getpagesize());
  return (bytes + page - 1) / page * page;
}

Arena::Arena() : file_(::memfd_create("standin", MFD_CLOEXEC)) {
  const std::size_t size = kDeviceSpan * kMaxDevices;
  const auto map = [&](int rights) { return ::mmap(nullptr, size, rights, MAP_SHARED | MAP_NORESERVE, file_, 0); };
  TORCH_CHECK(file_ >= 0 && ::ftruncate(file_, static_cast<off_t>(size)) == 0, "standin: no memory file");
  void *base = map(PROT_NONE), *view = map(PROT_READ | PROT_WRITE);
  TORCH_CHECK(base != MAP_FAILED && view != MAP_FAILED, "standin: no addresses");
  base_ = static_cast<char*>(base);
  view_ = static_cast<char*>(view);
}

void* Arena::take(int device, std::size_t bytes) {
  auto& free = free_[{device, size_of(bytes)}];
  if (!free.empty()) {
    free_bytes_ -= size_of(bytes);
    auto* const address = free.front();
    free.pop_front();
    return address;
  }
  auto& taken = taken_.at(static_cast<std::size_t>(device));
  char* address = base_ + static_cast<std::size_t>(device) * kDeviceSpan + taken;
  taken += size_of(bytes);
  TORCH_CHECK(taken <= kDeviceSpan, "standin: no addresses are left");
  std::memset(kernel_view(address), kPoison, size_of(bytes));
  return address;
}

void Arena::give_back(void* address, std::size_t bytes) {
  std::memset(kernel_view(address), kPoison, size_of(bytes));
  resting_.emplace_back(address, size_of(bytes));
  resting_bytes_ += size_of(bytes);
  while (resting_bytes_ > kRestingBytes) {
    const auto [rested, size] = resting_.front();
    resting_.pop_front();
    resting_bytes_ -= size;
    if (free_bytes_ + size > kFreeBytes) {
      ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<char*>(rested) - base_,
                  static_cast<off_t>(size));
      continue;
    }
    free_bytes_ += size;
    free_[{device_of(rested), size}].push_back(rested);
  }
}

bool Arena::holds(const void* address) const {
  const auto* byte = static_cast<const char*>(address);
  return byte >= base_ && byte < base_ + kDeviceSpan * kMaxDevices;
}

int Arena::device_of(const void* address) const {
  return static_cast<int>(static_cast<std::size_t>(static_cast<const char*>(address) - base_) / kDeviceSpan);
}

}  // namespace standin
