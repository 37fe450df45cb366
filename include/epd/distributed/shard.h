#pragma once

#include <cstdint>
#include <vector>

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

/// The items of a run.
template <class T>
std::vector<T> part_of(const std::vector<T>& items, const Shard& run) {
  return {items.begin() + run.begin, items.begin() + run.end};
}

/// The items of this rank out of a list that all ranks hold.
template <class T>
std::vector<T> share_of(const std::vector<T>& items, int rank, int size) {
  return part_of(items, shard_of(static_cast<std::int64_t>(items.size()), rank, size));
}

/// A run as runs of `at_once` items and a shorter last one; `at_once` 0: itself. None of a run without items.
std::vector<Shard> passes_of(const Shard& run, std::int64_t at_once);

/// The items in batches: passes_of over all of them.
template <class T>
std::vector<std::vector<T>> batches_of(const std::vector<T>& items, std::int64_t at_once) {
  std::vector<std::vector<T>> batches;
  for (const Shard& pass : passes_of({0, static_cast<std::int64_t>(items.size())}, at_once)) {
    batches.push_back(part_of(items, pass));
  }
  return batches;
}

}  // namespace epd
