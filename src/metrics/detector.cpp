#include "epd/metrics/detector.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/subgraph_matcher.h>
#include <torch/csrc/jit/passes/subgraph_rewrite.h>
#include <torch/script.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/out_of_memory.h"
#include "epd/core/run_main.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/device.h"
#include "epd/files/zip.h"
#include "epd/metrics/statistics.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

std::string name_of_file(const fs::path& path) {
  std::error_code ignored;
  const auto demo = project_dir() / "models" / "demo" / "features.ts";
  return fs::equivalent(path, demo, ignored) ? "demo" : path.stem().string();
}

/// What makes inference faster on the CPU and changes features by no more than rounding: convolutions that keep
/// channels together (oneDNN's fast layout) and rectify what they write, which autograd does not know.
void optimize_for_cpu(torch::jit::Module& module) {
  if (!at::globalContext().hasMKLDNN()) return;
  torch::jit::SubgraphRewriter rewriter;
  rewriter.RegisterRewritePattern(R"(
graph(%x, %weight, %bias, %stride, %padding, %dilation, %groups):
  %convolved = aten::conv2d(%x, %weight, %bias, %stride, %padding, %dilation, %groups)
  %result = aten::relu(%convolved)
  return (%result))",
                                  R"(
graph(%x, %weight, %bias, %stride, %padding, %dilation, %groups):
  %rectify : str = prim::Constant[value="relu"]()
  %none : NoneType = prim::Constant()
  %no_scalars : Scalar?[] = prim::ListConstruct()
  %result : Tensor = mkldnn::_convolution_pointwise(
      %x, %weight, %bias, %padding, %stride, %dilation, %groups, %rectify, %no_scalars, %none)
  return (%result))");
  const auto fits = [](const torch::jit::Match& match,
                       const std::unordered_map<std::string, torch::jit::Value*>& names) {
    const auto value = [&](const char* name) { return match.values_map.at(names.at(name)); };
    const auto weight = torch::jit::toIValue(value("weight"));
    return weight && weight->isTensor() && weight->toTensor().scalar_type() == at::kFloat &&
           value("padding")->type()->kind() == c10::TypeKind::ListType;  // not the name of one, as "same"
  };
  auto graph = module.get_method("forward").graph();
  rewriter.runOnGraph(graph, fits);
}

torch::jit::Module load_frozen(const fs::path& path, const DetectorOptions& options) {
  EPD_REQUIRE(fs::is_regular_file(path), "detector: no such file: ", path.string());
  try {
    require_undamaged(path);
    make_reproducible(options.device);
    auto module = torch::jit::load(path.string(), options.device);
    module.eval();
    const bool for_cpu = options.scoring_only && options.device.is_cpu();
    for (auto parameter : module.parameters()) {
      parameter.set_requires_grad(false);
      if (for_cpu && parameter.dim() == 4) parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast));
    }
    auto frozen = torch::jit::freeze(module);
    if (for_cpu) optimize_for_cpu(frozen);
    return frozen;
  } catch (const std::exception& e) {
    throw Error(text("cannot load the detector ", path.string(), ": ", one_line(e.what())));
  }
}

bool takes_return_features(const torch::jit::Module& module) {
  for (const auto& argument : module.get_method("forward").function().getSchema().arguments()) {
    if (argument.name() == "return_features") return true;
  }
  return false;
}

}  // namespace

struct Detector::Module {
  torch::jit::Module script;
  std::unordered_map<std::string, c10::IValue> keywords;
};

Detector::Detector(const fs::path& path, const DetectorOptions& options)
    : path_(path), options_(options), bounded_(options.chunk == 0) {
  if (options_.chunk == 0) options_.chunk = options_.device.is_cpu() ? 32 : 128;
  EPD_REQUIRE_USAGE(options_.chunk > 0, "chunk: expected a positive number of images, got ", options_.chunk);
  auto script = load_frozen(path, options_);
  sha256_ = sha256_of_file(path);
  name_ = name_of_file(path);
  module_ = std::make_unique<Module>(Module{std::move(script), {}});
  if (takes_return_features(module_->script)) module_->keywords["return_features"] = true;
  check_contract();
}

Detector::~Detector() = default;

void Detector::check_contract() {
  const auto require = [&](bool kept, const auto&... what) {
    EPD_REQUIRE(kept, "detector ", path_.string(), " breaks the detector contract: ", what...);
  };
  const auto image = at::full({1, 3, 64, 64}, 128, at::TensorOptions(options_.device).dtype(at::kByte));
  const auto features = [&] {
    at::NoGradGuard no_grad;
    return run(image);
  }();
  require(features.dim() == 2 && features.size(0) == 1 && features.size(1) > 0,
          "features of one uint8 image should be [1, F], they are ", features.sizes());
  require(features.scalar_type() == at::kFloat, "features should be float32, they are ",
          c10::toString(features.scalar_type()));
  num_features_ = features.size(1);
  if (options_.scoring_only) return;
  const auto of_float = run(image.to(at::kFloat).requires_grad_());
  require(of_float.sizes() == features.sizes(), "features of a float image should be ", features.sizes(), ", they are ",
          of_float.sizes());
  require(of_float.requires_grad(), "features should be differentiable from a float image");
}

at::Tensor Detector::run(const at::Tensor& images) const {
  const Tf32 full_precision(options_.device, false);  // whatever the denoiser beside it computes in
  try {
    return module_->script.forward({images}, module_->keywords).toTensor();
  } catch (const std::exception& e) {
    if (const auto out = out_of_memory(e)) throw *out;
    throw Error(text("detector ", path_.string(), ": forward failed: ", one_line(e.what())));
  }
}

std::int64_t Detector::chunk_of(std::int64_t height, std::int64_t width) const {
  // A pixel takes some 30 bytes on its way to a network that resizes: half a gigabyte on the CPU.
  const std::int64_t pixels = options_.device.is_cpu() ? std::int64_t{1} << 24 : std::int64_t{1} << 26;
  if (!bounded_) return options_.chunk;
  return std::clamp<std::int64_t>(pixels / std::max<std::int64_t>(height * width, 1), 1, options_.chunk);
}

at::Tensor Detector::features(const at::Tensor& images, bool pad) const {
  EPD_REQUIRE(images.dim() == 4 && images.size(1) == 3 && images.scalar_type() == at::kByte,
              "expected uint8 images [N, 3, H, W], got ", c10::toString(images.scalar_type()), " ", images.sizes());
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  const auto most = chunk_of(images.size(2), images.size(3));
  for (std::int64_t begin = 0; begin < images.size(0); begin += most) {
    const auto count = std::min(most, images.size(0) - begin);
    auto chunk = images.narrow(0, begin, count).to(options_.device);
    if (pad && count < most) chunk = at::constant_pad_nd(chunk, {0, 0, 0, 0, 0, 0, 0, most - count});
    parts.push_back(run(chunk.contiguous()).narrow(0, 0, count));
  }
  if (parts.empty()) return at::empty({0, num_features_}, at::TensorOptions(options_.device).dtype(at::kFloat));
  return at::cat(parts);
}

at::Tensor Detector::features_of(const at::Tensor& images) const {
  EPD_REQUIRE(!options_.scoring_only, "detector ", path_.string(), " was opened for scoring, without gradients");
  EPD_REQUIRE(images.dim() == 4 && images.size(1) == 3 && images.is_floating_point(),
              "expected float images [N, 3, H, W], got ", c10::toString(images.scalar_type()), " ", images.sizes());
  return run(images.to(options_.device, at::kFloat));
}

std::shared_ptr<const Detector> open_scoring_detector(const std::string& dataset_name, const std::string& detector,
                                                      at::Device device, std::int64_t chunk) {
  const DetectorOptions options{.device = device, .chunk = chunk, .scoring_only = true};
  return std::make_shared<const Detector>(find_detector(dataset_name, detector), options);
}

std::string limits_of_detector(const std::string& name) {
  if (name == "demo") return "the demo's own small network: its numbers compare with nothing but themselves";
  if (name != "inception" && name != "inception-pytorch") return "not known to this program";
  return text(
      "trained to classify ImageNet's photographs: it sees little of what tells other images apart (faces, text, "
      "drawings), more of texture than of shape, at 299x299. ",
      name == "inception" ? "Weights of 2015, as EDM and the original FID use them"
                          : "pytorch-fid's weights, which differ from those of EDM and the original FID",
      "; numbers of other networks do not compare with these.");
}

void warn_of_unknown_detector(const Detector& detector, const Statistics& reference) {
  const auto folder = fs::path(reference.source).parent_path();
  if (!reference.detector.empty() || folder == cache_dir() / "statistics") return;
  log::warning(reference.source, " does not name its detector; ", detector.name(),
               " is assumed. Another one's features give a wrong number: name it with --detector (pytorch-fid's "
               "statistics are of inception-pytorch)");
}

void require_same_detector(const Detector& detector, const Statistics& reference) {
  const Statistics nothing_yet{
      .mu = at::zeros({detector.num_features()}), .detector = detector.name(), .detector_sha256 = detector.sha256()};
  require_same_detector(nothing_yet, reference);
}

}  // namespace epd
