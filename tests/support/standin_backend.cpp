// The stand-in as LibTorch knows it: allocators, device guard, hooks and generators.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <malloc.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "support/standin_kernels.h"
#include "support/standin_runtime.h"

namespace standin {
namespace {

c10::Device device_at(int index) { return {kType, static_cast<c10::DeviceIndex>(index)}; }

class DeviceAllocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    auto& runtime = Runtime::get();
    const auto device = runtime.current_device();
    void* address = runtime.allocate(device.index(), bytes);
    return {address, address, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    auto& runtime = Runtime::get();
    runtime.launch(runtime.current_stream(device_at(runtime.arena().device_of(to))), {from}, {to});
    std::memcpy(runtime.arena().kernel_view(to), runtime.arena().kernel_view(from), bytes);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    Runtime::get().record_stream(data.get(), stream);
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    const Stats now = stats(device);
    c10::CachingDeviceAllocator::DeviceStats result;
    auto& bytes = result.allocated_bytes[0];
    bytes.current = now.bytes;
    bytes.peak = now.peak_bytes;
    return result;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex device) override { reset_peak(device); }
  std::pair<std::size_t, std::size_t> getMemoryInfo(c10::DeviceIndex device) override {
    std::int64_t total = 0;
    Runtime::get().change(device, [&](DeviceState& state) { total = state.limit; });
    if (total == 0) total = std::int64_t{16} << 30;
    return {static_cast<std::size_t>(total - stats(device).bytes), static_cast<std::size_t>(total)};
  }

 private:
  static void release(void* address) { Runtime::get().release(address); }
};

/// Host memory that copies run to and from by themselves.
class PinnedAllocator final : public c10::Allocator {
 public:
  static PinnedAllocator& get() {
    static auto* const allocator = new PinnedAllocator;
    return *allocator;
  }
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, c10::Device(c10::kCPU)};
    auto* address = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    std::memset(address, 0xff, bytes);
    const std::lock_guard lock(mutex_);
    blocks_[address] = bytes;
    return {address, address, &release, c10::Device(c10::kCPU)};
  }
  bool holds(const void* address) {
    const std::lock_guard lock(mutex_);
    const auto* byte = static_cast<const char*>(address);
    const auto after = blocks_.upper_bound(byte);
    return after != blocks_.begin() && byte < std::prev(after)->first + std::prev(after)->second;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

 private:
  static void release(void* address) {
    auto& self = get();
    const std::lock_guard lock(self.mutex_);
    self.blocks_.erase(static_cast<char*>(address));
    std::free(address);
  }
  std::mutex mutex_;
  std::map<const char*, std::size_t> blocks_;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device getDevice() const override { return runtime().current_device(); }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = getDevice();
    runtime().set_current_device(device);
    return before;
  }
  void setDevice(c10::Device device) const override { runtime().set_current_device(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { runtime().set_current_device(device); }
  c10::DeviceIndex deviceCount() const noexcept override { return static_cast<c10::DeviceIndex>(num_devices()); }

  c10::Stream getStream(c10::Device device) const override { return runtime().current_stream(device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return runtime().pool_stream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return runtime().pool_stream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const auto before = runtime().current_stream(stream.device());
    runtime().set_current_stream(stream);
    return before;
  }
  bool queryStream(const c10::Stream& stream) const override { return runtime().query(stream); }
  void synchronizeStream(const c10::Stream& stream) const override { runtime().wait(stream); }
  void synchronizeDevice(c10::DeviceIndex device) const override { runtime().wait_for_device(device); }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new Event;
    runtime().record(*static_cast<Event*>(*event), stream);
  }
  void block(void* event, const c10::Stream& stream) const override {
    runtime().block(*static_cast<Event*>(event), stream);
  }
  bool queryEvent(void* event) const override { return runtime().query(*static_cast<Event*>(event)); }
  void synchronizeEvent(void* event) const override { runtime().wait(*static_cast<Event*>(event)); }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    runtime().record_stream(data.get(), stream);
  }

 private:
  static Runtime& runtime() { return Runtime::get(); }
};

/// A generator of a device, whose numbers are the CPU's.
class DeviceGenerator final : public c10::GeneratorImpl {
 public:
  DeviceGenerator(c10::Device device, at::Generator inner)
      : GeneratorImpl(device, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)), inner_(std::move(inner)) {}
  const at::Generator& inner() const { return inner_; }
  void set_current_seed(std::uint64_t seed) override { inner_.set_current_seed(seed); }
  void set_offset(std::uint64_t offset) override { inner_.set_offset(offset); }
  std::uint64_t get_offset() const override { return inner_.get_offset(); }
  std::uint64_t current_seed() const override { return inner_.current_seed(); }
  std::uint64_t seed() override { return inner_.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner_.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner_.unsafeGetGeneratorImpl()->get_state();
  }

 private:
  DeviceGenerator* clone_impl() const override { return new DeviceGenerator(device(), inner_.clone()); }
  at::Generator inner_;
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return num_devices() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex device) const override { return Runtime::get().is_touched(device); }
  c10::DeviceIndex deviceCount() const override { return static_cast<c10::DeviceIndex>(num_devices()); }
  c10::DeviceIndex getCurrentDevice() const override { return Runtime::get().current_device().index(); }
  void setCurrentDevice(c10::DeviceIndex device) const override {
    Runtime::get().set_current_device(device_at(device));
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    const auto before = getCurrentDevice();
    setCurrentDevice(device);
    return before;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return exchangeDevice(device); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &PinnedAllocator::get(); }
  bool isPinnedPtr(const void* address) const override { return PinnedAllocator::get().holds(address); }
  at::Device getDeviceFromPtr(void* address) const override {
    return device_at(Runtime::get().arena().device_of(address));
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override {
    static auto* const generators = [] {
      auto* all = new std::vector<at::Generator>;
      for (int i = 0; i < num_devices(); ++i) {
        all->push_back(at::make_generator<DeviceGenerator>(device_at(i), at::detail::createCPUGenerator()));
      }
      return all;
    }();
    return generators->at(static_cast<std::size_t>(device < 0 ? getCurrentDevice() : device));
  }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override { return getDefaultGenerator(device).clone(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const override {
    resize_storage(storage, bytes);
  }
};

struct sigaction before;

void on_fault(int number, siginfo_t* info, void* context) {
  if (Runtime::get().arena().holds(info->si_addr)) {
    constexpr char kMessage[] = "standin: the host touched the memory of a device, which only its kernels may\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  }
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr) {
    before.sa_sigaction(number, info, context);
  } else {
    std::signal(number, SIG_DFL);  // the same access again, and the end
  }
}

const bool registered = [] {
  static auto* const allocator = new DeviceAllocator;
  c10::SetAllocator(kType, allocator);
  static const c10::impl::DeviceGuardImplRegistrar guard(kType, new Guard);
  static auto* const hooks = new Hooks;
  at::RegisterPrivateUse1HooksInterface(hooks);
  c10::register_privateuse1_backend(kName);
  Runtime::get();
  // The CPU's results are short-lived and large: pages that are given back each time cost more than the kernels.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, &before);
  return true;
}();

}  // namespace

at::Generator generator_of_kernels(const at::Generator& generator) {
  const auto* own = dynamic_cast<DeviceGenerator*>(generator.unsafeGetGeneratorImpl());
  return own == nullptr ? generator : own->inner();
}

}  // namespace standin
