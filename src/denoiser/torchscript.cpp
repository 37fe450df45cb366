#include "epd/denoiser/torchscript.h"

#include <torch/script.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/out_of_memory.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/device.h"
#include "epd/documents/model_facts_json.h"
#include "epd/files/zip.h"

namespace epd {

namespace {

/// The networks of a model file and the method that each computes, as the contract names them.
struct Part {
  const char *method, *name;
};
constexpr std::array<Part, 5> kParts{{{"forward", "network"},
                                      {"guide", "guide_network"},
                                      {"decode", "first_stage"},
                                      {"encode_text", "text_encoder"},
                                      {"log_prob", "classifier"}}};

bool is_part(const std::string& name) {
  return std::ranges::any_of(kParts, [&](const Part& part) { return name == part.name; });
}

/// As torch::jit::Module::to, which knows Torch's own devices alone; on request without the parts.
void move(torch::jit::Module module, at::Device device, bool parts = true) {
  for (const auto& parameter : module.named_parameters(false)) {
    module.setattr(parameter.name, parameter.value.to(device));
  }
  for (const auto& buffer : module.named_buffers(false)) module.setattr(buffer.name, buffer.value.to(device));
  for (const auto& child : module.named_children()) {
    if (parts || !is_part(child.name)) move(child.value, device);
  }
}

}  // namespace

struct TorchScriptModel::Module {
  torch::jit::Module script;
  at::Device device;
  bool tf32, offload;
  std::string resident = {};  // with offload: the part that is on the device

  /// Puts what the method needs onto the device, and what was there before back.
  void make_room_for(const std::string& method) {
    if (!offload || device.is_meta()) return;
    const std::string name = std::ranges::find(kParts, method, &Part::method)->name;
    if (name == resident || !script.hasattr(name)) return;
    if (!resident.empty()) move(script.attr(resident).toModule(), at::kCPU);
    resident = name;
    move(script.attr(name).toModule(), device);
  }

  /// Options that need less memory, for the message of a call that ran out of it.
  std::string advice(const std::string& method) const {
    const std::string smaller(method == "decode" ? "--decode_batch" : kSmallerNetworkOptions);
    const auto parts = std::ranges::count_if(kParts, [&](const Part& part) { return script.hasattr(part.name); });
    return offload || parts < 2 || at::GradMode::is_enabled() ? smaller : smaller + ", or sample with --offload";
  }

  template <class... Arguments>
  at::Tensor call(const std::string& method, const std::filesystem::path& path, const Arguments&... arguments) {
    const std::vector<c10::IValue> stack{arguments...};
    const Tf32 scope(device, tf32);
    try {
      make_room_for(method);
      return script.get_method(method)(stack).toTensor();
    } catch (const std::exception& e) {
      if (const auto out = out_of_memory(e, advice(method))) throw *out;
      throw Error(text("model ", path.string(), ": ", method, " failed: ", last_line(e.what())));
    }
  }

  /// TorchScript reports a traceback first; the reason stands in its last line.
  static std::string last_line(const std::string& message) {
    auto lines = stream_of(message);
    std::string line, last;
    while (std::getline(lines, line)) {
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (line.rfind("Exception raised from", 0) == 0) break;
      last = line;
    }
    return last;
  }
};

namespace {

bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
}

/// Files may hold half-precision weights. `network` and `guide_network` get the dtype that they compute in, all other
/// halves are widened: the decoder and what surrounds the networks compute in float32.
void set_precision(torch::jit::Module& script, Precision precision, const std::filesystem::path& path) {
  const bool half = precision == Precision::kFloat16 || precision == Precision::kBFloat16;
  if (half) {
    EPD_REQUIRE(script.hasattr("network"), "model ", path.string(),
                ": no submodule `network` to cast; use --precision fp32");
    const auto dtype = precision == Precision::kFloat16 ? at::kHalf : at::kBFloat16;
    script.attr("network").toModule().to(dtype);
    if (script.hasattr("guide_network")) script.attr("guide_network").toModule().to(dtype);
  }
  const auto widen = [](at::Tensor tensor) {
    if (is_half(tensor)) tensor.set_data(tensor.to(at::kFloat));
  };
  const auto widen_own = [&](const torch::jit::Module& module, bool recurse) {
    for (const auto& parameter : module.parameters(recurse)) widen(parameter);
    for (const auto& buffer : module.buffers(recurse)) widen(buffer);
  };
  widen_own(script, false);
  for (const auto& child : script.named_children()) {
    if (!half || (child.name != "network" && child.name != "guide_network")) widen_own(child.value, true);
  }
}

torch::jit::Module load_script(const std::filesystem::path& path, at::Device device, bool offload) {
  try {
    if (!device.is_meta()) require_undamaged(path);
    make_reproducible(device);
    auto script = torch::jit::load(path.string(), offload && !device.is_meta() ? at::kCPU : device);
    script.eval();
    for (auto parameter : script.parameters()) {
      parameter.set_requires_grad(false);
      // Channels last is the layout of oneDNN's fast kernels, and a convolution takes on that of its weights: so all
      // between the network's first and last one keeps it.
      if (device.is_cpu() && parameter.dim() == 4)
        parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast));
    }
    return script;
  } catch (const c10::Error& e) {
    const std::string why = e.what_without_backtrace();
    throw Error(text("cannot load the model ", path.string(), ": ", why.substr(0, why.find('\n'))));
  }
}

/// Whether the processor multiplies bfloat16 itself (AVX512-BF16; those with AMX have it too).
bool has_bfloat16() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx512bf16");
#else
  return true;  // not known
#endif
}

Precision resolved(Precision wanted, const ModelFacts& facts, at::Device device) {
  if (wanted == Precision::kAuto) {
    const bool slow = facts.precision == Precision::kBFloat16 && !has_fast_bfloat16(device);
    return device.is_cpu() || slow ? Precision::kFloat32 : facts.precision;
  }
  EPD_REQUIRE_USAGE(wanted != Precision::kTf32 || !device.is_cpu(), "precision tf32 needs a GPU; use fp32 on the CPU");
  if (wanted == Precision::kBFloat16 && device.is_cpu() && !has_bfloat16()) {
    log::warning("precision bf16: this processor has no bfloat16 products (AVX512-BF16); fp32 is faster here");
  }
  return wanted;
}

bool has_method(const torch::jit::Module& script, const std::string& name, std::size_t inputs) {
  const auto method = script.find_method(name);
  return method && method->function().getSchema().arguments().size() == inputs + 1;
}

}  // namespace

TorchScriptModel::TorchScriptModel(const std::filesystem::path& path, at::Device device, Precision precision,
                                   ImageSize size, bool offload)
    : path_(path),
      facts_(read_model_facts(path, size)),
      sha256_(device.is_meta() ? "" : sha256_of_file(path)),  // on `meta` no weight is read for its value
      device_(device),
      precision_(resolved(precision, facts_, device)),
      module_(std::make_unique<Module>(
          Module{load_script(path, device, offload), device, allows_tf32(), offload && !device.is_cpu()})) {
  set_precision(module_->script, precision_, path);
  if (module_->offload && !device.is_meta()) move(module_->script, device, /*parts=*/false);
  check_contract();
}

TorchScriptModel::~TorchScriptModel() = default;

void TorchScriptModel::check_contract() const {
  const auto& script = module_->script;
  const auto require = [&](bool kept, const char* what) {
    EPD_REQUIRE(kept, "model ", path_.string(), " breaks the model contract: ", what);
  };
  require(has_method(script, "forward", 3), "it needs forward(x, sigma, condition)");
  require(!facts_.latent || has_method(script, "decode", 1), "facts.json has `latent`, so it needs decode(latent)");
  require(!facts_.text || has_method(script, "encode_text", 1),
          "facts.json has `text`, so it needs encode_text(tokens)");
  require(!facts_.guide || has_method(script, "guide", 3),
          "facts.json has `guide`, so it needs guide(x, sigma, condition)");
  require(!facts_.classifier || has_method(script, "log_prob", 3),
          "its facts name a classifier, so it needs log_prob(x, sigma, label)");

  at::NoGradGuard no_grad;
  const auto options = at::TensorOptions(device_).dtype(at::kFloat);
  const auto x = at::zeros(facts_.state_shape(1), options);
  at::Tensor condition;
  if (facts_.condition == ConditionKind::kLabel) {
    condition = facts_.label_format == LabelFormat::kOneHot ? at::zeros({1, facts_.label_dim}, options)
                                                            : at::zeros({1}, options.dtype(at::kLong));
  } else if (facts_.condition == ConditionKind::kText) {
    condition = at::zeros({1, facts_.text->rows, facts_.text->width}, options);
  }
  const auto denoised = forward(x, at::ones({1}, options), condition);
  require(denoised.sizes() == x.sizes() && denoised.scalar_type() == x.scalar_type(),
          "forward must return a tensor of x's shape and dtype");
}

at::Tensor TorchScriptModel::forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const {
  const bool usual =
      condition.defined() == (facts_.condition != ConditionKind::kNone) && facts_.height == 0 && facts_.width == 0;
  at::Tensor result;
  if (compiled_ && usual && compiled_->takes(x) && !at::GradMode::is_enabled()) {
    const Tf32 scope(device_, precision_ == Precision::kTf32);
    result = compiled_->forward(x, sigma, condition);
  } else {
    const c10::IValue given = condition.defined() ? c10::IValue(condition) : c10::IValue();
    result = module_->call("forward", path_, x, sigma, given);
  }
  return denoised(result, x, sigma);
}

at::Tensor TorchScriptModel::guide(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const {
  const c10::IValue given = condition.defined() ? c10::IValue(condition) : c10::IValue();
  return denoised(module_->call("guide", path_, x, sigma, given), x, sigma);
}

at::Tensor TorchScriptModel::denoised(const at::Tensor& result, const at::Tensor& x, const at::Tensor& sigma) const {
  if (clock_of(facts_.noise) == Clock::kEdm) return result;
  return x - sigma.to(x.dtype()).view({-1, 1, 1, 1}) * result;
}

std::int64_t TorchScriptModel::offloaded_bytes() const {
  std::int64_t all = 0, largest = 0;
  if (!module_->offload) return 0;
  for (const auto& child : module_->script.named_children()) {
    if (!is_part(child.name)) continue;
    std::int64_t bytes = 0;
    for (const auto& parameter : child.value.parameters()) bytes += static_cast<std::int64_t>(parameter.nbytes());
    for (const auto& buffer : child.value.buffers()) bytes += static_cast<std::int64_t>(buffer.nbytes());
    all += bytes;
    largest = std::max(largest, bytes);
  }
  return all - largest;
}

at::Tensor TorchScriptModel::decode(const at::Tensor& x) const {
  return facts_.latent ? module_->call("decode", path_, x) : x;
}

at::Tensor TorchScriptModel::encode_text(const at::Tensor& tokens) const {
  return module_->call("encode_text", path_, tokens);
}

at::Tensor TorchScriptModel::log_prob(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& labels) const {
  return module_->call("log_prob", path_, x, sigma, labels);
}

}  // namespace epd
