#include "epd/files/pickle.h"

#include <utility>

#include "epd/core/error.h"

namespace epd {

/// The machine of Python's pickletools, on records.
class PickleReader {
 public:
  PickleReader(Pickle& pickle, std::string_view bytes) : pickle_(pickle), bytes_(bytes) {}

  Pickle::Value read() {
    while (true) {
      const auto code = static_cast<unsigned char>(take(1)[0]);
      if (code == '.') return pop();
      if (!read_scalar(code) && !read_container(code) && !read_memo(code) && !read_object(code)) {
        pickle_.fail(text("it holds more than plain data (opcode ", static_cast<int>(code), ")"));
      }
    }
  }

 private:
  using Kind = Pickle::Kind;
  using Value = Pickle::Value;
  using Items = Pickle::Items;

  std::string_view take(std::size_t count) {
    if (count > bytes_.size()) pickle_.fail("unexpected end of file");
    const auto piece = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return piece;
  }
  std::string take_line() {
    const auto end = bytes_.find('\n');
    if (end == bytes_.npos) pickle_.fail("unexpected end of file");
    std::string line(take(end));
    take(1);
    return line;
  }
  /// A little-endian number; of the signed ones only 4 bytes are.
  std::int64_t integer(std::size_t num_bytes) {
    std::uint64_t value = 0;
    const auto piece = take(num_bytes);
    for (std::size_t i = num_bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(piece[i]);
    return static_cast<std::int64_t>(value);
  }
  std::size_t length(std::size_t num_bytes) { return static_cast<std::size_t>(integer(num_bytes)); }

  void push(Value value) { stack_.push_back(value); }
  void push_text(std::string_view bytes) {
    pickle_.texts_.emplace_back(bytes);
    push({Kind::kText, static_cast<std::int64_t>(pickle_.texts_.size()) - 1});
  }
  void push_items(Kind kind, Items items) {
    pickle_.items_.push_back(std::move(items));
    push({kind, static_cast<std::int64_t>(pickle_.items_.size()) - 1});
  }
  Value pop() {
    if (stack_.empty() || (!marks_.empty() && marks_.back() >= stack_.size())) pickle_.fail("it is corrupt");
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
  }
  Items pop_to_mark() {
    if (marks_.empty() || marks_.back() > stack_.size()) pickle_.fail("it is corrupt");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    marks_.pop_back();
    Items items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return items;
  }
  Items pop_last(std::size_t count) {
    Items items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }
  /// Adds to the list, dict or call on top of the stack.
  void extend(const Items& more) {
    const Value target = pop();
    push(target);
    if (target.kind != Kind::kList && target.kind != Kind::kDict && target.kind != Kind::kCall) {
      pickle_.fail("it is corrupt");
    }
    auto& items = pickle_.items_.at(static_cast<std::size_t>(target.number));
    items.insert(items.end(), more.begin(), more.end());
  }

  bool read_scalar(unsigned char code) {
    switch (code) {
      case 0x80:
        return take(1), true;  // PROTO
      case 0x95:
        return take(8), true;  // FRAME
      case 'N':
        return push({}), true;
      case 0x88:
      case 0x89:
        return push({Kind::kNumber, code == 0x88}), true;
      case 'K':
        return push({Kind::kNumber, integer(1)}), true;
      case 'M':
        return push({Kind::kNumber, integer(2)}), true;
      case 'J':
        return push({Kind::kNumber, static_cast<std::int32_t>(integer(4))}), true;
      case 'U':   // SHORT_BINSTRING
      case 'C':   // SHORT_BINBYTES
      case 0x8c:  // SHORT_BINUNICODE
        return push_text(take(length(1))), true;
      case 'T':  // BINSTRING
      case 'B':  // BINBYTES
      case 'X':  // BINUNICODE
        return push_text(take(length(4))), true;
      case 0x8d:  // BINUNICODE8
      case 0x8e:  // BINBYTES8
        return push_text(take(length(8))), true;
    }
    return false;
  }

  bool read_container(unsigned char code) {
    switch (code) {
      case '(':
        return marks_.push_back(stack_.size()), true;
      case ']':
      case ')':
        return push_items(Kind::kList, {}), true;
      case '}':
        return push_items(Kind::kDict, {}), true;
      case 'l':
      case 't':
        return push_items(Kind::kList, pop_to_mark()), true;
      case 'd':
        return push_items(Kind::kDict, pop_to_mark()), true;
      case 0x85:
      case 0x86:
      case 0x87:
        return push_items(Kind::kList, pop_last(code - 0x84U)), true;
      case 'a':
        return extend(pop_last(1)), true;
      case 's':
        return extend(pop_last(2)), true;
      case 'e':
      case 'u':
        return extend(pop_to_mark()), true;
    }
    return false;
  }

  bool read_memo(unsigned char code) {
    switch (code) {
      case 'q':
      case 'r':
        return remember(length(code == 'q' ? 1 : 4)), true;
      case 0x94:
        return remember(memo_.size()), true;  // MEMOIZE
      case 'h':
      case 'j':
        return recall(length(code == 'h' ? 1 : 4)), true;
    }
    return false;
  }
  /// Python numbers its memos 0, 1, 2...
  void remember(std::size_t place) {
    if (place > memo_.size() + 1) pickle_.fail("it is corrupt");
    if (place >= memo_.size()) memo_.resize(place + 1);
    memo_[place] = pop();
    push(memo_[place]);
  }
  void recall(std::size_t place) {
    if (place >= memo_.size()) pickle_.fail("it is corrupt");
    push(memo_[place]);
  }

  bool read_object(unsigned char code) {
    switch (code) {
      case 'c': {  // GLOBAL
        const auto module = take_line();
        push_text(module + '.' + take_line());
        stack_.back().kind = Kind::kGlobal;
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const auto names = pop_last(2);
        push_text(pickle_.text(names[0]) + '.' + pickle_.text(names[1]));
        stack_.back().kind = Kind::kGlobal;
        return true;
      }
      case 'R':
        return push_items(Kind::kCall, pop_last(2)), true;
      case 'b':
        return extend(pop_last(1)), true;  // BUILD
    }
    return false;
  }

  Pickle& pickle_;
  std::string_view bytes_;
  Items stack_, memo_;
  std::vector<std::size_t> marks_;
};

namespace {

/// Latin-1 from its UTF-8. Code points are below 256, so none has more than two bytes.
std::string latin1(const std::string& utf8) {
  std::string result;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto lead = static_cast<unsigned char>(utf8[i]);
    const bool two = lead >= 0xC2 && lead <= 0xC3 && i + 1 < utf8.size();
    result += two ? static_cast<char>((lead & 3) << 6 | (utf8[++i] & 0x3F)) : utf8[i];
  }
  return result;
}

}  // namespace

Pickle::Pickle(std::string_view bytes, std::string where) : where_(std::move(where)) {
  root_ = PickleReader(*this, bytes).read();
}

void Pickle::fail(const std::string& what) const {
  throw Error(epd::text("cannot read the pickle ", where_, ": ", what));
}

std::int64_t Pickle::number(Value value) const {
  if (value.kind != Kind::kNumber) fail("expected a number");
  return value.number;
}

std::string Pickle::text(Value value) const {
  if (value.kind == Kind::kText) return texts_.at(static_cast<std::size_t>(value.number));
  if (value.kind == Kind::kCall) {
    const auto& call = items(value);
    const bool encode =
        call[0].kind == Kind::kGlobal && texts_.at(static_cast<std::size_t>(call[0].number)) == "_codecs.encode";
    if (encode && !items(call[1]).empty() && items(call[1])[0].kind == Kind::kText) {
      return latin1(text(items(call[1])[0]));
    }
  }
  fail("expected a string");
}

const Pickle::Items& Pickle::items(Value value) const {
  if (value.kind != Kind::kList && value.kind != Kind::kDict && value.kind != Kind::kCall) fail("expected a list");
  return items_.at(static_cast<std::size_t>(value.number));
}

Pickle::Value Pickle::at(Value dict, std::string_view key) const {
  const auto& pairs = items(dict);
  for (std::size_t i = 0; i + 1 < pairs.size(); i += 2) {
    if (pairs[i].kind == Kind::kText && text(pairs[i]) == key) return pairs[i + 1];
  }
  fail(epd::text("there is no '", key, "'"));
}

}  // namespace epd
