#include "support/standin_accelerator.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "support/standin_runtime.h"

namespace standin {
namespace {

std::string json(const Copies& copies) {
  return c10::str("{\"count\": ", copies.count, ", \"bytes\": ", copies.bytes, ", \"waiting\": ", copies.waiting, "}");
}

void write_report() {
  std::string report;
  for (int device = 0; device < num_devices(); ++device) {
    try {
      if (stats(device).used) Runtime::get().wait_for_device(device);
    } catch (const c10::Error&) {  // what failed has been said
    }
    const Stats s = stats(device);
    report += c10::str(device == 0 ? "[" : ",\n ", "{\"bytes\": ", s.bytes, ", \"peak_bytes\": ", s.peak_bytes,
                       ", \"blocks\": ", s.blocks, ", \"kernels\": ", s.kernels, ", \"waits\": ", s.waits,
                       ", \"violations\": ", s.violations, ", \"used\": ", s.used ? "true" : "false",
                       ", \"to_device\": ", json(s.to_device), ", \"to_host\": ", json(s.to_host),
                       ", \"within\": ", json(s.within), "}");
  }
  std::FILE* file = std::fopen(std::getenv("STANDIN_REPORT"), "w");
  if (file == nullptr) return;
  std::fputs((report + "]\n").c_str(), file);
  std::fclose(file);
}

const bool reporting = std::getenv("STANDIN_REPORT") != nullptr && std::atexit(write_report) == 0;

}  // namespace

int num_devices() { return Runtime::get().num_devices(); }
Stats stats(int device) { return Runtime::get().stats(device); }
std::int64_t bytes(int device) { return stats(device).bytes; }
std::int64_t peak_bytes(int device) { return stats(device).peak_bytes; }

std::int64_t settled_bytes(int device) {
  for (int i = 0; i < 500 && bytes(device) > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return bytes(device);
}

void reset_peak(int device) {
  Runtime::get().change(device, [](DeviceState& state) { state.stats.peak_bytes = state.stats.bytes; });
}

void reset_counts() {
  for (int device = 0; device < num_devices(); ++device) {
    Runtime::get().change(device, [](DeviceState& state) {
      const Stats& s = state.stats;
      state.stats = {.bytes = s.bytes, .peak_bytes = s.bytes, .blocks = s.blocks};
      state.error.clear();
    });
  }
}

void limit(int device, std::int64_t bytes) {
  Runtime::get().change(device, [&](DeviceState& state) { state.limit = bytes; });
}

void fail_at(int device, std::int64_t n) {
  Runtime::get().change(device, [&](DeviceState& state) { state.fails_in = n; });
}

void delay(int device, double seconds) {
  Runtime::get().change(device, [&](DeviceState& state) { state.delay = seconds; });
}

}  // namespace standin
