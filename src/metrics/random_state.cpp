#include "epd/metrics/random_state.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "epd/core/error.h"

namespace epd {

std::uint32_t RandomState::interval(std::uint32_t max) {
  if (max == 0) return 0;
  std::uint32_t mask = max;
  for (int shift = 1; shift <= 16; shift *= 2) mask |= mask >> shift;
  std::uint32_t value = next() & mask;
  while (value > max) value = next() & mask;
  return value;
}

std::vector<std::size_t> RandomState::permutation(std::size_t n) {
  EPD_REQUIRE(n <= (std::size_t{1} << 32), "at most 2^32 items can be shuffled");
  std::vector<std::size_t> result(n);
  std::iota(result.begin(), result.end(), std::size_t{0});
  for (std::size_t i = n; i-- > 1;) std::swap(result[i], result[interval(static_cast<std::uint32_t>(i))]);
  return result;
}

std::vector<std::size_t> RandomState::choice(std::size_t n, std::size_t size) {
  EPD_REQUIRE(size <= n, "cannot choose ", size, " of ", n);
  auto result = permutation(n);
  result.resize(size);
  return result;
}

std::vector<std::size_t> random_subset(std::size_t n, std::size_t wanted, std::uint32_t seed) {
  std::vector<std::size_t> result;
  if (wanted < n) {
    result = RandomState(seed).choice(n, wanted);
    std::ranges::sort(result);
  } else {
    result.resize(n);
    std::iota(result.begin(), result.end(), std::size_t{0});
  }
  return result;
}

}  // namespace epd
