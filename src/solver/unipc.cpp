#include "epd/solver/unipc.h"

#include <cmath>
#include <cstddef>
#include <utility>

namespace epd {
namespace {

/// The weights rho with sum_j rho_j ratios_j^i = b_i (a transposed Vandermonde system), by elimination with pivoting.
std::vector<double> solve_moments(const std::vector<double>& ratios, std::vector<double> b) {
  const std::size_t n = ratios.size();
  std::vector<std::vector<double>> a(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) a[i][j] = std::pow(ratios[j], static_cast<double>(i));
  }
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t i = column + 1; i < n; ++i) {
      if (std::abs(a[i][column]) > std::abs(a[pivot][column])) pivot = i;
    }
    std::swap(a[column], a[pivot]);
    std::swap(b[column], b[pivot]);
    for (std::size_t i = 0; i < n; ++i) {
      if (i == column) continue;
      const double factor = a[i][column] / a[column][column];
      for (std::size_t j = column; j < n; ++j) a[i][j] -= factor * a[column][j];
      b[i] -= factor * b[column];
    }
  }
  for (std::size_t i = 0; i < n; ++i) b[i] /= a[i][i];
  return b;
}

}  // namespace

std::vector<double> unipc_weights(const std::vector<double>& ratios, double hh, UnipcVariant variant) {
  const double b_of_h = variant == UnipcVariant::kBh1 ? hh : std::expm1(hh);
  // phi holds hh phi_{i+1}(hh), from phi_{k+1} = (phi_k - 1/k!) / hh.
  double phi = std::expm1(hh) / hh - 1, factorial = 1;
  std::vector<double> b;
  for (std::size_t i = 1; i <= ratios.size(); ++i) {
    b.push_back(phi * factorial / b_of_h);
    factorial *= static_cast<double>(i + 1);
    phi = phi / hh - 1 / factorial;
  }
  return solve_moments(ratios, b);
}

}  // namespace epd
