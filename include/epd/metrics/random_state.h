#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace epd {

/// The part of NumPy's RandomState(seed) that subsets of images are drawn with, number for number: the Mersenne
/// twister seeded with one integer (NumPy expands lists of them in another way), bounded integers by masked rejection,
/// and the shuffle of Fisher and Yates from the back. NumPy keeps this stream frozen.
class RandomState {
 public:
  explicit RandomState(std::uint32_t seed) : twister_(seed) {}

  std::uint32_t next() { return static_cast<std::uint32_t>(twister_()); }
  /// 0 to max, both included.
  std::uint32_t interval(std::uint32_t max);
  /// permutation(n): 0 to n - 1, shuffled. n at most 2^32.
  std::vector<std::size_t> permutation(std::size_t n);
  /// choice(n, size, replace=False): the first `size` of a permutation.
  std::vector<std::size_t> choice(std::size_t n, std::size_t size);

 private:
  std::mt19937 twister_;
};

/// The images that EDM's tools take when there are more than wanted: the first `wanted` of RandomState(seed)'s
/// permutation, sorted. All of them where there are not more.
std::vector<std::size_t> random_subset(std::size_t n, std::size_t wanted, std::uint32_t seed);

}  // namespace epd
