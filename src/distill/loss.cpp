#include "epd/distill/loss.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/script.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/out_of_memory.h"
#include "epd/denoiser/denoiser.h"
#include "epd/denoiser/device.h"
#include "epd/files/zip.h"
#include "epd/metrics/tensor_images.h"
#include "epd/runtime/linear.h"

namespace epd {
namespace {

class L2Loss : public Loss {
 public:
  LossValue compare(const at::Tensor& student, const at::Tensor& teacher) const override {
    at::NoGradGuard no_grad;
    const auto gap = student - teacher;
    return {inner_products(gap, gap).cpu(), 2 * gap};
  }
};

class FeatureLoss : public Loss {
 public:
  FeatureLoss(FeatureFunction features, DecodeFunction decode, double alpha, std::int64_t chunk)
      : features_(std::move(features)), decode_(std::move(decode)), alpha_(alpha), chunk_(chunk) {}

  LossValue compare(const at::Tensor& student, const at::Tensor& teacher) const override {
    std::vector<at::Tensor> losses, gradients;
    for (std::int64_t first = 0; first < student.size(0); first += chunk_) {
      const std::int64_t count = std::min(chunk_, student.size(0) - first);
      const auto chunk_of = [&](const at::Tensor& x) { return padded_rows(x.narrow(0, first, count), chunk_); };
      const LossValue part = compare_chunk(chunk_of(student), chunk_of(teacher));
      losses.push_back(part.per_image.narrow(0, 0, count));
      gradients.push_back(part.gradient.narrow(0, 0, count));
    }
    return {at::cat(losses), at::cat(gradients)};
  }

 private:
  LossValue compare_chunk(const at::Tensor& student, const at::Tensor& teacher) const {
    at::Tensor wanted;
    {
      at::NoGradGuard no_grad;
      wanted = features_of(teacher);
    }
    const at::AutoGradMode with_grad(true);
    const Tf32 full_precision(student.device(), false);  // of the gradient, as of the features
    const auto leaf = student.detach().requires_grad_(true);
    const double scale = alpha_ * static_cast<double>(student.numel() / student.size(0));
    const auto per_image = scale * (features_of(leaf) - wanted).square().mean(1);
    try {
      const auto gradient = torch::autograd::grad({per_image.sum()}, {leaf})[0];
      return {per_image.detach().to(at::kCPU, at::kDouble), gradient};
    } catch (const std::exception& e) {
      if (const auto out = out_of_memory(e, "--decode_batch or --chunk")) throw *out;
      throw;
    }
  }

  at::Tensor features_of(const at::Tensor& states) const {
    return features_((decode_(states) * 127.5 + 128).clamp(0, 255));
  }

  FeatureFunction features_;
  DecodeFunction decode_;
  double alpha_;
  std::int64_t chunk_;
};

class RewardLoss : public Loss {
 public:
  RewardLoss(const std::filesystem::path& path, DecodeFunction decode, at::Device device)
      : path_(path), decode_(std::move(decode)) {
    try {
      require_undamaged(path);
      reward_ = torch::jit::load(path.string(), device);
      reward_.eval();
    } catch (const c10::Error& error) {
      const std::string why = error.what_without_backtrace();
      throw Error(text("reward: cannot load ", path.string(), ": ", why.substr(0, why.find('\n'))));
    }
  }

  LossValue compare(const at::Tensor&, const at::Tensor&) const override {
    throw Error("reward: it has no gradient; use --search");
  }

  at::Tensor value(const at::Tensor& student, const at::Tensor&, const std::vector<std::string>& texts) const override {
    at::NoGradGuard no_grad;
    const auto images = for_detector(to_pixels(decode_(student))).to(at::kFloat);
    const auto rewards = call(images, texts);
    EPD_REQUIRE(rewards.dim() == 1 && rewards.size(0) == images.size(0), "reward: ", path_.string(),
                " gave a tensor of ", rewards.sizes(), " for ", images.size(0), " images, expected one number each");
    return -rewards.to(at::kCPU, at::kDouble);
  }

 private:
  at::Tensor call(const at::Tensor& images, const std::vector<std::string>& texts) const {
    try {
      return reward_.forward({images, texts}).toTensor();
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const std::exception& error) {
      const std::string why = error.what();
      const auto last = why.find_last_not_of(" \n");
      const auto line = why.rfind('\n', last) + 1;
      throw Error(text("reward: ", path_.string(), " failed: ", why.substr(line, last + 1 - line)));
    }
  }

  std::filesystem::path path_;
  DecodeFunction decode_;
  mutable torch::jit::Module reward_;
};

class SumOfLosses : public Loss {
 public:
  SumOfLosses(std::unique_ptr<Loss> first, std::unique_ptr<Loss> second)
      : first_(std::move(first)), second_(std::move(second)) {}

  LossValue compare(const at::Tensor& student, const at::Tensor& teacher) const override {
    const LossValue a = first_->compare(student, teacher), b = second_->compare(student, teacher);
    return {a.per_image + b.per_image, a.gradient + b.gradient};
  }

 private:
  std::unique_ptr<Loss> first_, second_;
};

}  // namespace

std::unique_ptr<Loss> sum_of_losses(std::unique_ptr<Loss> first, std::unique_ptr<Loss> second) {
  return std::make_unique<SumOfLosses>(std::move(first), std::move(second));
}

std::unique_ptr<Loss> reward_loss(const std::filesystem::path& reward, DecodeFunction decode, at::Device device) {
  return std::make_unique<RewardLoss>(reward, std::move(decode), device);
}

std::unique_ptr<Loss> l2_loss() { return std::make_unique<L2Loss>(); }

std::unique_ptr<Loss> feature_loss(FeatureFunction features, DecodeFunction decode, double alpha, std::int64_t chunk) {
  return std::make_unique<FeatureLoss>(std::move(features), std::move(decode), alpha, chunk);
}

}  // namespace epd
