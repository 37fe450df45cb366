#pragma once

#include <cstdint>

namespace epd {

/// A run of consecutive items: begin, ..., end - 1.
struct Shard {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Shard&) const = default;
};

/// The items of this rank: the shards of all ranks are consecutive, cover every item once, and differ in size by at
/// most one (the first ranks take the remainder). Throws Error unless 0 <= rank < size and items >= 0.
Shard shard_of(std::int64_t items, int rank, int size);

}  // namespace epd
