#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace epd {

/// Seeds are 0 to 2^32 - 1: one picture each.
inline constexpr std::uint64_t kMaxSeed = 0xFFFFFFFFu;

/// A list of seeds and ranges, "0-3,7" = 0, 1, 2, 3, 7, in the order written. Throws UsageError for an empty list or
/// part, anything but digits, a falling range (5-3), a seed above kMaxSeed, a seed that stands twice, or more than
/// 100,000,000 seeds.
std::vector<std::uint64_t> parse_seeds(std::string_view list);

/// The shortest list that parse_seeds reads as these seeds: rising neighbours become ranges, the order is kept.
std::string seeds_text(const std::vector<std::uint64_t>& seeds);

}  // namespace epd
