#pragma once

#include <ATen/ATen.h>

#include <string>

#include "epd/files/npz.h"
#include "epd/metrics/statistics.h"
#include "epd/metrics/tensor_images.h"

namespace epd::test {

inline std::string golden_path(const std::string& name) {
  return std::string(EPD_SOURCE_DIR) + "/tests/golden/metrics/" + name;
}

/// Features and the values that NumPy, SciPy, torch-fidelity and prdc have for them (make_goldens.py).
inline at::Tensor golden(const std::string& name) {
  return to_double_tensor(NpzReader(golden_path("metrics.npz")).read(name));
}

inline Statistics statistics_of(const at::Tensor& features) {
  FeatureSums sums(features.size(1));
  sums.add(features);
  return sums.statistics();
}

/// Statistics without a known number of pictures.
inline Statistics make_statistics(const at::Tensor& mu, const at::Tensor& sigma) { return {.mu = mu, .sigma = sigma}; }

inline at::Tensor random_normal(at::IntArrayRef shape, std::uint64_t seed) {
  auto generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::randn(shape, generator, at::kDouble);
}

/// An orthogonal [n, n].
inline at::Tensor random_rotation(std::int64_t n, std::uint64_t seed) {
  return std::get<0>(at::linalg_qr(random_normal({n, n}, seed)));
}

/// A symmetric matrix with these eigenvalues and the columns of `rotation` as eigenvectors.
inline at::Tensor with_eigenvalues(const at::Tensor& values, const at::Tensor& rotation) {
  const auto matrix = (rotation * values).mm(rotation.t());
  return (matrix + matrix.t()) / 2;
}

}  // namespace epd::test
