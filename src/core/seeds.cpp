#include "epd/core/seeds.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::size_t kMaxSeeds = 100'000'000;

std::string_view without_spaces(std::string_view part) {
  const auto first = part.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return part.substr(first, part.find_last_not_of(' ') - first + 1);
}

std::uint64_t parse_seed(std::string_view part, std::string_view list) {
  const std::string_view digits = without_spaces(part);
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seed);
  const bool is_number = !digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos;
  EPD_REQUIRE_USAGE(is_number, "seeds: expected numbers and ranges such as 0-3,7, got '", shown(digits), "' in '",
                    shown(list), "'");
  EPD_REQUIRE_USAGE(error == std::errc() && end == digits.data() + digits.size() && seed <= kMaxSeed,
                    "seeds: the largest allowed is ", kMaxSeed, ", got ", shown(digits));
  return seed;
}

void append_part(std::string_view part, std::string_view list, std::vector<std::uint64_t>& seeds) {
  const auto dash = part.find('-', 1);  // a leading dash is a sign, and refused as such
  const std::uint64_t first = parse_seed(part.substr(0, dash), list);
  const std::uint64_t last = dash == std::string_view::npos ? first : parse_seed(part.substr(dash + 1), list);
  EPD_REQUIRE_USAGE(first <= last, "seeds: a range must be increasing, such as 1-3; got ", part);
  EPD_REQUIRE_USAGE(last - first < kMaxSeeds - seeds.size(), "seeds: more than ", kMaxSeeds, " in '", shown(list), "'");
  for (std::uint64_t seed = first; seed <= last; ++seed) seeds.push_back(seed);
}

}  // namespace

std::vector<std::uint64_t> parse_seeds(std::string_view list) {
  EPD_REQUIRE_USAGE(!without_spaces(list).empty(), "seeds: the list is empty; write numbers and ranges such as 0-3,7");
  std::vector<std::uint64_t> seeds;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    append_part(without_spaces(list.substr(begin, end - begin)), list, seeds);
    begin = end + 1;
  }
  if (std::ranges::adjacent_find(seeds, std::greater_equal<>{}) != seeds.end()) {
    auto sorted = seeds;
    std::ranges::sort(sorted);
    const auto twice = std::ranges::adjacent_find(sorted);
    EPD_REQUIRE_USAGE(twice == sorted.end(), "seeds: ", *twice, " appears twice in '", shown(list), "'");
  }
  return seeds;
}

std::string seeds_text(const std::vector<std::uint64_t>& seeds) {
  std::string result;
  for (std::size_t i = 0; i < seeds.size();) {
    std::size_t last = i;
    while (last + 1 < seeds.size() && seeds[last + 1] == seeds[last] + 1) ++last;
    if (!result.empty()) result += ',';
    result += std::to_string(seeds[i]);
    if (last > i) result += '-' + std::to_string(seeds[last]);
    i = last + 1;
  }
  return result;
}

}  // namespace epd
