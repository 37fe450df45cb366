#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace epd {

/// What a Python pickle (protocols 2 to 4) says, without doing it: nothing is imported or called. Classes and calls
/// stay records. Bounded by the bytes; anything broken or outside of plain data throws Error.
class Pickle {
 public:
  enum class Kind { kNone, kNumber, kText, kList, kDict, kGlobal, kCall };
  struct Value {
    Kind kind = Kind::kNone;
    std::int64_t number = 0;  // or the place of the text or of the items
  };
  using Items = std::vector<Value>;

  /// `where` stands in errors.
  Pickle(std::string_view bytes, std::string where);

  Value root() const { return root_; }
  std::int64_t number(Value value) const;  // also of True and False
  /// Of a str or bytes, as its bytes; bytes that Python 3 wrote for protocol 2 (a call of _codecs.encode) are decoded.
  std::string text(Value value) const;
  /// Of a list or tuple; of a dict: key, value, key, value...; of a call: callable, arguments, state where one is set.
  const Items& items(Value value) const;
  /// The value under a key of a dict. Throws Error, naming the key, where there is none.
  Value at(Value dict, std::string_view key) const;

 private:
  friend class PickleReader;
  [[noreturn]] void fail(const std::string& what) const;

  std::string where_;
  Value root_;
  std::deque<std::string> texts_;
  std::deque<Items> items_;
};

}  // namespace epd
