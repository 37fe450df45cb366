#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "epd/core/error.h"

namespace epd {

/// A closed set of choices and their names: one table serves the flags, the JSON files and the error texts.
template <class Enum, std::size_t N>
using NameTable = std::array<std::pair<const char*, Enum>, N>;

template <class Enum, std::size_t N>
const char* name_of(const NameTable<Enum, N>& table, Enum value) {
  for (const auto& [name, candidate] : table) {
    if (candidate == value) return name;
  }
  throw Error("a value without a name");
}

/// "a, b or c", for error texts and help.
template <class Enum, std::size_t N>
std::string all_names(const NameTable<Enum, N>& table) {
  std::string result;
  for (std::size_t i = 0; i < N; ++i) {
    if (i > 0) result += i + 1 == N ? " or " : ", ";
    result += table[i].first;
  }
  return result;
}

/// The value called `name`, or UsageError "what: expected a, b or c, got name".
template <class Enum, std::size_t N>
Enum value_of(const NameTable<Enum, N>& table, std::string_view name, std::string_view what) {
  for (const auto& [candidate, value] : table) {
    if (name == candidate) return value;
  }
  throw UsageError(text(what, ": expected ", all_names(table), ", got '", name, "'"));
}

}  // namespace epd
