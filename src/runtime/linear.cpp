#include "epd/runtime/linear.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::int64_t kBlock = 1024;         // sums that stay in the first-level cache
constexpr std::int64_t kGrain = 16 * kBlock;  // below this a thread is not worth starting

template <class T>
void sum_block(const std::vector<double>& weights, const std::vector<const T*>& inputs, std::int64_t begin,
               std::int64_t size, T* out) {
  std::array<double, kBlock> sum{};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const T* input = inputs[i] + begin;
    const double weight = weights[i];
    for (std::int64_t j = 0; j < size; ++j) sum[j] += weight * static_cast<double>(input[j]);
  }
  for (std::int64_t j = 0; j < size; ++j) out[begin + j] = static_cast<T>(sum[j]);
}

template <class T>
at::Tensor weighted_sum_on_cpu(const std::vector<WeightedTensor>& terms) {
  std::vector<at::Tensor> held;
  std::vector<double> weights;
  std::vector<const T*> inputs;
  for (const auto& term : terms) {
    held.push_back(term.tensor.contiguous());
    inputs.push_back(held.back().const_data_ptr<T>());
    weights.push_back(term.weight);
  }
  auto result = at::empty_like(held[0]);
  T* out = result.mutable_data_ptr<T>();
  at::parallel_for(0, result.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; block += kBlock) {
      sum_block(weights, inputs, block, std::min(kBlock, end - block), out);
    }
  });
  return result;
}

/// Eight running sums, so that the order is fixed and the compiler may still use vectors.
template <class T>
double dot(const T* a, const T* b, std::int64_t size) {
  std::array<double, 8> sum{};
  std::int64_t j = 0;
  for (; j + 8 <= size; j += 8) {
    for (std::int64_t lane = 0; lane < 8; ++lane) {
      sum[lane] += static_cast<double>(a[j + lane]) * static_cast<double>(b[j + lane]);
    }
  }
  for (; j < size; ++j) sum[0] += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

template <class T>
at::Tensor inner_products_on_cpu(const at::Tensor& a, const at::Tensor& b) {
  const auto x = a.contiguous(), y = b.contiguous();
  const std::int64_t batch = x.size(0), size = x.numel() / batch;
  auto result = at::empty({batch}, at::kDouble);
  const T *x_data = x.const_data_ptr<T>(), *y_data = y.const_data_ptr<T>();
  double* out = result.mutable_data_ptr<double>();
  at::parallel_for(0, batch, std::max<std::int64_t>(1, kGrain / size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = dot(x_data + i * size, y_data + i * size, size);
  });
  return result;
}

bool on_cpu(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

}  // namespace

at::Tensor weighted_sum(const std::vector<WeightedTensor>& terms) {
  EPD_ASSERT(!terms.empty(), "a weighted sum without terms");
  if (on_cpu(terms[0].tensor)) {
    return terms[0].tensor.scalar_type() == at::kDouble ? weighted_sum_on_cpu<double>(terms)
                                                        : weighted_sum_on_cpu<float>(terms);
  }
  auto sum = terms[0].tensor * terms[0].weight;
  for (std::size_t i = 1; i < terms.size(); ++i) sum.add_(terms[i].tensor, terms[i].weight);
  return sum;
}

at::Tensor inner_products(const at::Tensor& a, const at::Tensor& b) {
  if (on_cpu(a)) {
    return a.scalar_type() == at::kDouble ? inner_products_on_cpu<double>(a, b) : inner_products_on_cpu<float>(a, b);
  }
  return (a * b).flatten(1).sum(1, /*keepdim=*/false, at::kDouble);
}

}  // namespace epd
