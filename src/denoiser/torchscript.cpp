#include "epd/denoiser/torchscript.h"

#include <torch/script.h>

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

struct TorchScriptModel::Module {
  torch::jit::Module script;
  at::Device device;
  bool tf32;

  template <class... Arguments>
  at::Tensor call(const std::string& method, const std::filesystem::path& path, const Arguments&... arguments) {
    const std::vector<c10::IValue> stack{arguments...};
    const Tf32 scope(device, tf32);
    try {
      return script.get_method(method)(stack).toTensor();
    } catch (const std::exception& e) {
      if (const auto out = out_of_memory(e, method == "decode" ? "--decode_batch" : kSmallerNetworkOptions)) throw *out;
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

torch::jit::Module load_script(const std::filesystem::path& path, at::Device device) {
  try {
    if (!device.is_meta()) require_undamaged(path);
    make_reproducible(device);
    auto script = torch::jit::load(path.string(), device);
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

TorchScriptModel::TorchScriptModel(const std::filesystem::path& path, at::Device device, Precision precision)
    : path_(path),
      facts_(read_model_facts(path)),
      sha256_(device.is_meta() ? "" : sha256_of_file(path)),  // on `meta` no weight is read for its value
      device_(device),
      precision_(resolved(precision, facts_, device)),
      module_(std::make_unique<Module>(Module{load_script(path, device), device, allows_tf32()})) {
  if (precision_ == Precision::kFloat16 || precision_ == Precision::kBFloat16) {
    EPD_REQUIRE(module_->script.hasattr("network"), "model ", path.string(),
                ": no submodule `network` to cast; use --precision fp32");
    const auto dtype = precision_ == Precision::kFloat16 ? at::kHalf : at::kBFloat16;
    module_->script.attr("network").toModule().to(dtype);
  }
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
  require(!facts_.classifier || has_method(script, "log_prob", 3),
          "its facts name a classifier, so it needs log_prob(x, sigma, label)");

  at::NoGradGuard no_grad;
  const auto options = at::TensorOptions(device_).dtype(at::kFloat);
  const auto x = at::zeros({1, facts_.channels, facts_.resolution, facts_.resolution}, options);
  at::Tensor condition;
  if (facts_.condition == ConditionKind::kLabel) {
    condition = facts_.label_format == LabelFormat::kOneHot ? at::zeros({1, facts_.label_dim}, options)
                                                            : at::zeros({1}, options.dtype(at::kLong));
  } else if (facts_.condition == ConditionKind::kText) {
    condition = at::zeros({1, facts_.text->tokens, facts_.text->width}, options);
  }
  const auto denoised = forward(x, at::ones({1}, options), condition);
  require(denoised.sizes() == x.sizes() && denoised.scalar_type() == x.scalar_type(),
          "forward must return a tensor of x's shape and dtype");
}

at::Tensor TorchScriptModel::forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const {
  const bool usual = condition.defined() == (facts_.condition != ConditionKind::kNone);
  at::Tensor result;
  if (compiled_ && usual && compiled_->takes(x) && !at::GradMode::is_enabled()) {
    const Tf32 scope(device_, precision_ == Precision::kTf32);
    result = compiled_->forward(x, sigma, condition);
  } else {
    const c10::IValue given = condition.defined() ? c10::IValue(condition) : c10::IValue();
    result = module_->call("forward", path_, x, sigma, given);
  }
  if (clock_of(facts_.noise) == Clock::kEdm) return result;
  return x - sigma.to(x.dtype()).view({-1, 1, 1, 1}) * result;
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
