#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <torch/version.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <iostream>
#include <numeric>
#include <thread>

#include "cli.h"
#include "epd/assets/paths.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/device.h"
#include "epd/documents/predictor_json.h"
#include "epd/sampling/sampler.h"
#include "epd/solver/make_plan.h"

namespace {

using namespace epd;

/// The floating-point operations of the convolutions and matrix products that run while this lives, on any thread.
class FlopCounter {
 public:
  FlopCounter() {
    total_ = 0;
    handle_ = at::addGlobalCallback(at::RecordFunctionCallback(&before, &after)
                                        .needsInputs(true)
                                        .needsOutputs(true)
                                        .scopes({at::RecordScope::FUNCTION}));
  }
  ~FlopCounter() { at::removeCallback(handle_); }
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;

  double total() const { return static_cast<double>(total_); }

 private:
  /// Operations for each number of the output, known before the call: its inputs may be gone after it.
  struct PerOutput : at::ObserverContext {
    explicit PerOutput(std::int64_t operations) : count(operations) {}
    std::int64_t count;
  };

  /// Each number that comes out is a sum over the inner size: a product and an addition for each term.
  static std::unique_ptr<at::ObserverContext> before(const at::RecordFunction& call) {
    const std::string name = call.name();
    const auto tensor = [&](std::size_t input) { return call.inputs()[input].toTensor(); };
    if (name == "aten::convolution") {
      const std::int64_t each = 2 * tensor(1).numel() / tensor(1).size(0);
      const bool transposed = call.inputs()[6].toBool();
      if (!transposed) return std::make_unique<PerOutput>(each);
      total_ += each * tensor(0).numel();  // every number that goes in takes part in a kernel's worth of sums
      return nullptr;
    }
    if (name == "aten::mm" || name == "aten::bmm") return std::make_unique<PerOutput>(2 * tensor(0).size(-1));
    if (name == "aten::addmm" || name == "aten::baddbmm") return std::make_unique<PerOutput>(2 * tensor(1).size(-1));
    if (name.starts_with("aten::_scaled_dot_product_") && name != "aten::_scaled_dot_product_attention_math") {
      return std::make_unique<PerOutput>(4 * tensor(1).size(-2));  // products with the keys, and with the values
    }
    return nullptr;
  }
  static void after(const at::RecordFunction& call, at::ObserverContext* context) {
    if (context) total_ += static_cast<PerOutput*>(context)->count * call.outputs()[0].toTensor().numel();
  }

  static inline std::atomic<std::int64_t> total_ = 0;
  at::CallbackHandle handle_;
};

/// The demo model with its predictor on a device.
struct Demo {
  Sampler sampler;

  Demo(at::Device device, Precision precision, std::int64_t chunk)
      : Demo(open_model({folder() / "denoiser.ts", device, precision, {}, {.chunk = chunk}}),
             read_predictor(folder() / "predictor.json")) {}

  at::Tensor draw(std::int64_t images) const {
    std::vector<std::uint64_t> seeds(static_cast<std::size_t>(images));
    std::iota(seeds.begin(), seeds.end(), 0);
    return sampler.draw(seeds).images;
  }

  static std::filesystem::path folder() { return project_dir() / "models/demo"; }

 private:
  Demo(const OpenedModel& model, const PredictorSpec& predictor)
      : sampler(model, std::shared_ptr(make_conditions(model.model, folder(), {})),
                make_plan(predictor, predictor.time_steps()), predictor.time_steps()[0], {}) {}
};

/// The seconds of `work` on the device: the best of three after one that warms up, on the CPU of one.
double seconds_of(at::Device device, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i < (device.is_cpu() ? 2 : 4); ++i) {
    synchronize(device);
    const auto begin = std::chrono::steady_clock::now();
    work();
    synchronize(device);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (i > 0) best = std::min(best, seconds.count());
  }
  return best;
}

/// What a precision may cost: the deviation of pixels in [-1, 1] from the CPU's float32, as root mean square.
struct Allowed {
  Precision precision;
  at::ScalarType dtype;
  double rms;
};

class Check {
 public:
  Check(at::Device device, ProcessGroup& group)
      : device_(device), group_(group), images_(device.is_cpu() ? 8 : 32), chunk_(device.is_cpu() ? 8 : 256) {}

  void run() {
    check_device();
    const auto reference = Demo(at::kCPU, Precision::kFloat32, 8).draw(images_);
    for (const Allowed& allowed : device_.is_cpu() ? kCpu : kGpu) check_precision(allowed, reference);
    check_sum();
  }

  const std::string& report() const { return report_; }
  int failures() const { return failures_; }

 private:
  static inline const std::vector<Allowed> kCpu{{Precision::kFloat32, at::kFloat, 1e-5}};
  static inline const std::vector<Allowed> kGpu{{Precision::kFloat32, at::kFloat, 1e-4},
                                                {Precision::kTf32, at::kFloat, 5e-3},
                                                {Precision::kBFloat16, at::kBFloat16, 2e-2},
                                                {Precision::kFloat16, at::kHalf, 5e-3}};

  template <class... Parts>
  void say(bool passed, const Parts&... parts) {
    report_ +=
        text(passed ? "PASS " : "FAIL ", group_.size() > 1 ? text("rank ", group_.rank(), " ") : "", parts...) + "\n";
    failures_ += !passed;
  }

  void check_device() {
    const auto memory = memory_of(device_);
    const auto gib = [](std::int64_t bytes) { return std::round(static_cast<double>(bytes) / (1 << 30) * 10) / 10; };
    say(true, "device ", device_.str(), ": ", device_name(device_),
        memory ? text(", ", gib(memory->free), " of ", gib(memory->total), " GiB free") : "");
  }

  /// Images against the CPU's, two runs against each other, and the speed against that of a large matrix product.
  void check_precision(const Allowed& allowed, const at::Tensor& reference) {
    const auto name = std::string(name_of(kPrecisionNames, allowed.precision));
    const Demo demo(device_, allowed.precision, chunk_);
    const auto images = demo.draw(images_).cpu();
    const double rms = (images - reference).square().mean().sqrt().item<double>();
    say(rms < allowed.rms, name, ": rms difference to the CPU's fp32 images ", rms, " (at most ", allowed.rms, ")");
    say(at::equal(demo.draw(images_).cpu(), images), name, ": two runs give equal images");

    const std::int64_t drawn = device_.is_cpu() ? images_ : 4 * chunk_;
    const double seconds = seconds_of(device_, [&] { demo.draw(drawn); });
    const double share = flops_of(demo, drawn) / seconds / peak(allowed);
    say(true, name, ": ", std::lround(drawn / seconds), " images/s, ", std::lround(100 * share),
        " % of the speed of a large matrix product");
  }

  double flops_of(const Demo& demo, std::int64_t images) const {
    const FlopCounter counter;
    demo.draw(images);
    return counter.total();
  }

  /// Floating-point operations per second of a matrix product.
  double peak(const Allowed& allowed) const {
    const std::int64_t n = device_.is_cpu() ? 1024 : 8192;
    const auto a = at::randn({n, n}, at::TensorOptions(device_).dtype(allowed.dtype));
    const auto b = at::randn_like(a);
    const Tf32 scope(device_, allowed.precision == Precision::kTf32);
    return 2.0 * n * n * n / seconds_of(device_, [&] { at::mm(a, b); });
  }

  /// A sum over all processes of the job: NCCL's between GPUs.
  void check_sum() {
    if (group_.size() == 1) return;
    auto sum = at::full({1 << 20}, group_.rank() + 1.0, at::TensorOptions(device_).dtype(at::kDouble));
    group_.all_reduce_sum(sum, "check");
    const double expected = 0.5 * group_.size() * (group_.size() + 1);
    say((sum == expected).all().item<bool>(), "sum over ", group_.size(), " processes");
  }

  at::Device device_;
  ProcessGroup& group_;
  const std::int64_t images_, chunk_;
  std::string report_;
  int failures_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  cli::Common common;
  cli::Program program{"check",
                       "Check this machine on the demo model: devices, precisions, speed, sums over processes",
                       {{"", "", cli::options_of(common)}}};
  return run_main([&] {
    if (!program.parse(argc, argv)) return;
    cli::apply(common);
    cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) {
      Check check(device, group);
      if (group.is_root()) {
        std::cout << "     epd " << version() << ", LibTorch " << TORCH_VERSION << ", "
                  << std::thread::hardware_concurrency() << " CPU threads\n";
      }
      check.run();
      for (const auto& report : group.gather_bytes(check.report(), "reports")) std::cout << report;
      int failures = check.failures();
      auto all = at::scalar_tensor(failures, at::kLong);
      group.all_reduce_sum(all, "failures");
      EPD_REQUIRE(all.item<int>() == 0, all.item<int>(), " checks failed; see the lines that begin with FAIL");
    });
  });
}
