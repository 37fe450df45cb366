#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace epd {

/// How far the student's state is from the teacher's, image by image.
struct LossValue {
  at::Tensor per_image;  // float64 [B] on the CPU
  at::Tensor gradient;   // of their sum by the student's state, [B, C, H, W]
};

/// Compares states at the end of a step; a training objective has one for the last step.
class Loss {
 public:
  virtual ~Loss() = default;
  virtual LossValue compare(const at::Tensor& student, const at::Tensor& teacher) const = 0;
  /// The loss per image alone, of images with these texts.
  virtual at::Tensor value(const at::Tensor& student, const at::Tensor& teacher,
                           const std::vector<std::string>&) const {
    return compare(student, teacher).per_image;
  }
};

/// sum over C, H, W of (x_student - x_teacher)^2.
std::unique_ptr<Loss> l2_loss();

/// Features [N, F] of images [N, 3, H, W] in [0, 255], float and differentiable.
using FeatureFunction = std::function<at::Tensor(const at::Tensor& images)>;
/// Images in about [-1, 1] from states, differentiable: a decoder, or the identity.
using DecodeFunction = std::function<at::Tensor(const at::Tensor& states)>;

/// alpha C H W mean over features of (phi(x_student) - phi(x_teacher))^2, with images as clip(127.5 x + 128, 0, 255),
/// not rounded, so that gradients flow (EPD section 3.4; C, H, W are the state's). Both networks always see `chunk`
/// images, a smaller last chunk padded, so that an image's bits do not depend on the batch it came in.
std::unique_ptr<Loss> feature_loss(FeatureFunction features, DecodeFunction decode, double alpha, std::int64_t chunk);

/// Minus the reward of the student's images, whatever the teacher's: `reward` is a TorchScript module whose
/// forward(images, texts) takes float images [N, 3, H, W] of whole numbers in [0, 255] and a list of N texts, and gives
/// [N]. It has no gradient (--search). Throws Error for a file that is none.
std::unique_ptr<Loss> reward_loss(const std::filesystem::path& reward, DecodeFunction decode, at::Device device);

/// The sum of two losses.
std::unique_ptr<Loss> sum_of_losses(std::unique_ptr<Loss> first, std::unique_ptr<Loss> second);

}  // namespace epd
