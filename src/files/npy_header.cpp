#include <algorithm>
#include <charconv>
#include <limits>

#include "epd/core/error.h"
#include "epd/files/npy.h"

namespace epd {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kMaxDimensions = 64;  // NumPy's own limit

/// Reads the Python dictionary of a header, {'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }, in any order.
class HeaderText {
 public:
  HeaderText(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader parse() {
    NpyHeader header;
    bool has_dtype = false, has_order = false, has_shape = false;
    expect('{');
    while (!next_is('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        require(!next_is('['), "it has a structured dtype, which is not read");
        header.dtype = quoted();
        has_dtype = true;
      } else if (key == "fortran_order") {
        header.fortran_order = boolean();
        has_order = true;
      } else if (key == "shape") {
        header.shape = shape();
        has_shape = true;
      } else {
        require(false, "its header has an unknown key");
      }
      if (!next_is('}')) expect(',');
    }
    require(has_dtype && has_order && has_shape, "its header lacks descr, fortran_order or shape");
    return header;
  }

 private:
  void require(bool ok, std::string_view what) const { EPD_REQUIRE(ok, name_, ": ", what); }

  bool next_is(char c) {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n')) ++position_;
    return position_ < text_.size() && text_[position_] == c;
  }
  void expect(char c) {
    require(next_is(c), "its header is damaged");
    ++position_;
  }
  std::string quoted() {
    const char quote = next_is('"') ? '"' : '\'';
    expect(quote);
    const auto end = text_.find(quote, position_);
    require(end != std::string_view::npos, "its header is damaged");
    const std::string result(text_.substr(position_, end - position_));
    position_ = end + 1;
    return result;
  }
  bool boolean() {
    next_is(' ');
    for (const auto& [word, value] : {std::pair{std::string_view("True"), true}, {std::string_view("False"), false}}) {
      if (!text_.substr(position_).starts_with(word)) continue;
      position_ += word.size();
      return value;
    }
    require(false, "its header is damaged");
    return false;
  }
  std::vector<std::size_t> shape() {
    std::vector<std::size_t> result;
    expect('(');
    while (!next_is(')')) {
      std::size_t length = 0;
      const auto [end, error] = std::from_chars(text_.data() + position_, text_.data() + text_.size(), length);
      require(error == std::errc(), "its shape is damaged or absurd");
      position_ = static_cast<std::size_t>(end - text_.data());
      if (next_is('L')) ++position_;  // Python 2 wrote long numbers so
      result.push_back(length);
      require(result.size() <= kMaxDimensions, "its shape has too many dimensions");
      if (!next_is(')')) expect(',');
    }
    expect(')');
    return result;
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t position_ = 0;
};

/// Bytes per item of the dtypes that are read; errors for objects and the rest.
std::size_t item_bytes_of(const std::string& dtype, const std::string& name) {
  EPD_REQUIRE(dtype != "|O" && dtype != "O", name,
              ": it holds Python objects (a pickle), which could run code and are never read");
  std::size_t count = 0;
  const bool ordered = dtype.size() >= 3 && std::string_view("<>|=").find(dtype[0]) != std::string_view::npos;
  const auto* last = dtype.data() + dtype.size();
  const auto parsed = ordered ? std::from_chars(dtype.data() + 2, last, count) : std::from_chars_result{};
  const bool number = ordered && parsed.ptr == last && parsed.ec == std::errc();
  const char kind = number ? dtype[1] : '?';
  const bool power = count == 1 || count == 2 || count == 4 || count == 8;
  const bool known = ((kind == 'i' || kind == 'u') && power) || (kind == 'f' && power && count > 1) ||
                     (kind == 'b' && count == 1) || ((kind == 'U' || kind == 'S') && count < (1u << 24));
  EPD_REQUIRE(known, name, ": arrays of dtype '", dtype, "' are not read");
  return kind == 'U' ? 4 * count : count;
}

std::uint64_t checked_bytes(const NpyHeader& header, const std::string& name) {
  std::uint64_t total = header.item_bytes;
  for (const std::size_t length : header.shape) {
    if (length == 0) return 0;
    EPD_REQUIRE(total <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / length, name,
                ": its shape is absurd");
    total *= length;
  }
  return total;
}

}  // namespace

NpyHeader parse_npy_header(std::string_view start, const std::string& name) {
  EPD_REQUIRE(start.size() >= 10 && start.starts_with(kMagic), name, ": not an array in NumPy's format");
  const int version = static_cast<unsigned char>(start[6]);
  EPD_REQUIRE(version >= 1 && version <= 3, name, ": NumPy format version ", version, " is not known");
  const std::size_t prefix = version == 1 ? 10 : 12;
  EPD_REQUIRE(start.size() >= prefix, name, ": the file ends inside the header");
  std::size_t length = 0;
  for (std::size_t i = prefix; i-- > 8;) length = length << 8 | static_cast<unsigned char>(start[i]);
  EPD_REQUIRE(length <= kNpyHeaderRead - prefix, name, ": a header of ", length, " bytes is not read");
  EPD_REQUIRE(start.size() >= prefix + length, name, ": the file ends inside the header");
  NpyHeader header = HeaderText(start.substr(prefix, length), name).parse();
  header.header_bytes = prefix + length;
  header.item_bytes = item_bytes_of(header.dtype, name);
  header.data_bytes = checked_bytes(header, name);
  return header;
}

std::string npy_header(const std::string& dtype, const std::vector<std::size_t>& shape) {
  std::string dictionary = "{'descr': '" + dtype + "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) dictionary += std::to_string(shape[i]) + (i == 0 ? "," : ", ");
  if (shape.size() > 1) dictionary.resize(dictionary.size() - 2);
  dictionary += "), }";
  // The first dimension may still grow to 20 digits without the data moving.
  const std::size_t spare = shape.empty() ? 0 : 20 - std::to_string(shape[0]).size();
  const std::size_t total = (10 + dictionary.size() + spare + 1 + 63) / 64 * 64;
  dictionary.resize(total - 10 - 1, ' ');
  dictionary += '\n';
  std::string header(kMagic);
  header += {'\1', '\0', static_cast<char>(dictionary.size() & 0xFF), static_cast<char>(dictionary.size() >> 8)};
  return header + dictionary;
}

}  // namespace epd
