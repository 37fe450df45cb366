// One rank of a test job: does what its first argument says and exits as the product's programs do.
#include <ATen/ATen.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>

#include "epd/core/interrupt.h"
#include "epd/core/run_main.h"
#include "epd/distributed/process_group.h"
#include "support/standin_accelerator.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using Scenario = void (*)(ProcessGroup& group);

std::string bits(const at::Tensor& tensor) {
  const auto contiguous = tensor.contiguous();
  return {static_cast<const char*>(contiguous.const_data_ptr()), static_cast<std::size_t>(contiguous.nbytes())};
}

/// Sums of three types, among them a large one, against the closed form; the same bits on all ranks.
void sums(ProcessGroup& group) {
  const double n = group.size(), all = n * (n + 1) / 2;
  for (const auto type : {at::kDouble, at::kFloat, at::kLong}) {
    auto tensor = at::arange(100000, type) * (group.rank() + 1);
    const auto expected = at::arange(100000, type) * static_cast<std::int64_t>(all);
    group.all_reduce_sum(tensor, "test sum");
    EPD_REQUIRE(at::allclose(tensor, expected, 1e-5), "wrong sum of ", toString(type));
  }
  auto thirds = at::rand({7, 11}, at::kDouble) / 3;
  auto transposed = thirds.t();  // not contiguous: the sum still lands in the tensor that was given
  group.all_reduce_sum(transposed, "test sum of a view");
  group.require_same("the sum's bits", bits(thirds));
  auto nothing = at::zeros({0, 3});
  group.all_reduce_sum(nothing, "test sum of nothing");
}

void copies(ProcessGroup& group) {
  const int last = group.size() - 1;
  auto tensor = at::full({3, 2}, group.rank(), at::kFloat);
  group.broadcast(tensor, last, "test broadcast");
  EPD_REQUIRE(tensor.eq(last).all().item<bool>(), "wrong broadcast");
  const std::string long_text(100000, 'x');
  EPD_REQUIRE(group.broadcast_bytes(group.is_root() ? long_text : "", "test bytes") == long_text, "wrong bytes");
  EPD_REQUIRE(group.broadcast_bytes("", "test no bytes").empty(), "wrong empty bytes");
  const std::string own(group.rank() * 3, static_cast<char>('a' + group.rank()));  // the root's is empty
  const auto all = group.all_gather_bytes(own, "test gather to all");
  for (int r = 0; r < group.size(); ++r) {
    EPD_REQUIRE(all[r] == std::string(r * 3, static_cast<char>('a' + r)), "wrong bytes of rank ", r);
  }
  EPD_REQUIRE(group.gather_bytes(own, "test gather") == (group.is_root() ? all : std::vector<std::string>{}),
              "wrong gathered bytes");
  EPD_REQUIRE(group.all_gather_bytes("", "test gather of nothing") == std::vector<std::string>(group.size()),
              "wrong gathered nothing");
}

/// The others come past the barrier when the root is done.
void root_first(ProcessGroup& group) {
  const std::string path = std::string(std::getenv("EPD_TEST_FOLDER")) + "/made-by-root";
  if (group.is_root()) {
    std::this_thread::sleep_for(300ms);
    std::fclose(std::fopen(path.c_str(), "w"));
  }
  group.barrier("making a file");
  EPD_REQUIRE(access(path.c_str(), F_OK) == 0, "rank ", group.rank(), " came before the root was done");
}

/// Each rank on a stand-in device of its own: the CPU's bits, on the device, by the same collectives.
void device_sums(ProcessGroup& group) {
  EPD_REQUIRE(standin::num_devices() >= group.size(), "too few stand-in devices");
  const at::Device device(at::kPrivateUse1, static_cast<at::DeviceIndex>(group.rank()));
  group.use_device(device, std::to_string(group.rank()));
  for (const auto type : {at::kDouble, at::kFloat, at::kLong}) {
    auto here = at::arange(1000, type) * (group.rank() + 1), there = here.to(device);
    group.all_reduce_sum(here, "test sum");
    group.all_reduce_sum(there, "test sum on devices");
    EPD_REQUIRE(there.device() == device && at::equal(there.cpu(), here), "wrong sum of ", toString(type));
  }
  auto copied = at::full({3}, group.rank(), at::device(device));
  group.broadcast(copied, group.size() - 1, "test broadcast on devices");
  EPD_REQUIRE(copied.cpu().eq(group.size() - 1).all().item<bool>(), "wrong broadcast");
}
void one_device(ProcessGroup& group) { group.use_device(at::Device(at::kPrivateUse1, 0), "card 0"); }
void device_and_cpu(ProcessGroup& group) {
  group.use_device(group.is_root() ? at::Device(at::kPrivateUse1, 0) : at::Device(at::kCPU), "card");
}

void unequal(ProcessGroup& group) { group.require_same("option --batch", group.is_root() ? "64" : "32"); }

[[noreturn]] void keep_summing(ProcessGroup& group) {
  for (;;) {
    auto tensor = at::ones({8}, at::kDouble);
    group.all_reduce_sum(tensor, "sum of gradients");
  }
}

/// What sampling does: no collective, a look at the requests now and then.
[[noreturn]] void keep_computing() {
  for (;;) {
    check_interrupt();
    std::this_thread::sleep_for(20ms);
  }
}

bool is_last(const ProcessGroup& group) { return group.rank() == group.size() - 1; }

void one_throws_others_sum(ProcessGroup& group) {
  EPD_REQUIRE(!is_last(group), "cannot read weights.ts");
  keep_summing(group);
}
void one_throws_others_compute(ProcessGroup& group) {
  EPD_REQUIRE_USAGE(!is_last(group), "--batch: expected a positive number, got 0");
  keep_computing();
}
void torch_throws(ProcessGroup& group) {
  if (is_last(group)) at::ones({2, 3}).matmul(at::ones({2, 3}));
  keep_summing(group);
}
void root_throws(ProcessGroup& group) {
  EPD_REQUIRE(!group.is_root(), "the disk is full");
  keep_computing();
}
void one_killed_others_sum(ProcessGroup& group) {
  if (is_last(group)) std::raise(SIGKILL);
  keep_summing(group);
}
void one_killed_others_compute(ProcessGroup& group) {
  if (is_last(group)) std::raise(SIGKILL);
  keep_computing();
}
void root_killed(ProcessGroup& group) {
  if (group.is_root()) std::raise(SIGKILL);
  keep_computing();
}
void one_stopped_others_sum(ProcessGroup& group) {
  if (is_last(group)) std::raise(SIGSTOP);
  keep_summing(group);
}
void root_stopped(ProcessGroup& group) {
  if (group.is_root()) std::raise(SIGSTOP);
  keep_computing();
}
void one_late(ProcessGroup& group) {
  if (is_last(group)) std::this_thread::sleep_for(20s);
  auto tensor = at::ones({8});
  group.all_reduce_sum(tensor, "sum of gradients");
}
/// All ranks stop at the same iteration, whoever got the signal.
void one_signalled(ProcessGroup& group) {
  for (int iteration = 0;; ++iteration) {
    if (is_last(group) && iteration == 10) std::raise(SIGTERM);
    try {
      group.check_interrupt();
    } catch (const Interrupted&) {
      std::ostringstream line;
      line << "stopped at " << iteration << '\n';
      std::cout << line.str() << std::flush;
      throw;
    }
  }
}
void wait_for_signal(ProcessGroup&) { keep_computing(); }
void uneven_ends(ProcessGroup& group) { std::this_thread::sleep_for(group.rank() * 700ms); }
void nothing(ProcessGroup&) {}
/// In the job's first attempt the last rank is killed; a later attempt recalls what the first remembered.
void killed_once(ProcessGroup& group) {
  const auto attempt = group.is_root() ? recall("attempt") : std::nullopt;
  if (group.is_root()) remember("attempt", attempt.value_or("") + "+");
  group.barrier("remembered");
  const std::string mark = std::string(std::getenv("EPD_TEST_FOLDER")) + "/killed";
  const bool first = access(mark.c_str(), F_OK) != 0;
  group.barrier("looked");
  if (first && is_last(group)) {
    std::fclose(std::fopen(mark.c_str(), "w"));
    std::raise(SIGKILL);
  }
  if (first) keep_summing(group);
  if (group.is_root()) std::cout << "after " << attempt.value_or("nothing") << '\n' << std::flush;
}
void stuck_after_failure(ProcessGroup& group) {
  EPD_REQUIRE(!is_last(group), "cannot read weights.ts");
  std::this_thread::sleep_for(60s);  // one long call that looks at nothing
}

const std::map<std::string, Scenario> kScenarios{
    {"sums", sums},
    {"copies", copies},
    {"root_first", root_first},
    {"device_sums", device_sums},
    {"one_device", one_device},
    {"device_and_cpu", device_and_cpu},
    {"unequal", unequal},
    {"one_throws_others_sum", one_throws_others_sum},
    {"one_throws_others_compute", one_throws_others_compute},
    {"torch_throws", torch_throws},
    {"root_throws", root_throws},
    {"one_killed_others_sum", one_killed_others_sum},
    {"one_killed_others_compute", one_killed_others_compute},
    {"root_killed", root_killed},
    {"one_stopped_others_sum", one_stopped_others_sum},
    {"root_stopped", root_stopped},
    {"one_late", one_late},
    {"one_signalled", one_signalled},
    {"wait_for_signal", wait_for_signal},
    {"uneven_ends", uneven_ends},
    {"nothing", nothing},
    {"killed_once", killed_once},
    {"stuck_after_failure", stuck_after_failure},
};

}  // namespace
}  // namespace epd

int main(int argc, char** argv) {
  return epd::run_main([&] {
    EPD_REQUIRE_USAGE(argc == 3, "usage: distributed_worker SCENARIO TIMEOUT_IN_SECONDS");
    const auto scenario = epd::kScenarios.at(argv[1]);
    const auto timeout = std::chrono::milliseconds(static_cast<int>(std::stod(argv[2]) * 1000));
    setenv("EPD_JOIN_TIMEOUT", argv[2], 0);
    const auto group = epd::ProcessGroup::from_environment(timeout);
    std::cout << "started\n" << std::flush;
    group->run([&] {
      group->barrier("all are there");
      scenario(*group);
    });
  });
}
