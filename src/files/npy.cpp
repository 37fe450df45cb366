#include "epd/files/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "epd/core/error.h"

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
      require(error == std::errc(), "its shape is damaged or impossibly large");
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
                ": its shape is impossibly large");
    total *= length;
  }
  return total;
}

void swap_bytes(Array& array, std::size_t unit) {
  for (std::size_t i = 0; i + unit <= array.bytes.size(); i += unit) {
    std::reverse(array.bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 array.bytes.begin() + static_cast<std::ptrdiff_t>(i + unit));
  }
}

/// Fortran order (the first index runs fastest) to C order (the last does).
void to_c_order(Array& array, std::size_t item) {
  const std::size_t dimensions = array.shape.size();
  if (dimensions < 2 || array.bytes.empty()) return;
  std::vector<std::size_t> stride(dimensions, item);
  for (std::size_t d = 1; d < dimensions; ++d) stride[d] = stride[d - 1] * array.shape[d - 1];
  std::string result(array.bytes.size(), '\0');
  std::vector<std::size_t> index(dimensions, 0);
  std::size_t from = 0;
  for (std::size_t to = 0; to < result.size(); to += item) {
    std::memcpy(result.data() + to, array.bytes.data() + from, item);
    for (std::size_t d = dimensions; d-- > 0;) {
      from += stride[d];
      if (++index[d] < array.shape[d]) break;
      from -= stride[d] * array.shape[d];
      index[d] = 0;
    }
  }
  array.bytes = std::move(result);
}

std::size_t row_bytes_of(const std::string& dtype, const std::vector<std::size_t>& row_shape) {
  std::vector<std::size_t> shape = row_shape;
  shape.insert(shape.begin(), 1);
  return static_cast<std::size_t>(parse_npy_header(npy_header(dtype, shape), "an array to write").data_bytes);
}

std::vector<std::size_t> with_rows(std::size_t rows, std::vector<std::size_t> row_shape) {
  row_shape.insert(row_shape.begin(), rows);
  return row_shape;
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

Array decode_npy(std::string_view bytes, const std::string& name) {
  const NpyHeader header = parse_npy_header(bytes, name);
  const std::size_t held = bytes.size() - header.header_bytes;
  EPD_REQUIRE(header.data_bytes <= held, name, ": cut short, ", held, " bytes of data instead of ", header.data_bytes);
  Array array{header.dtype, header.shape,
              std::string(bytes.substr(header.header_bytes, static_cast<std::size_t>(header.data_bytes)))};
  const std::size_t unit = header.dtype[1] == 'U' ? 4 : header.dtype[1] == 'S' ? 1 : header.item_bytes;
  if (header.dtype[0] == '>') swap_bytes(array, unit);
  array.dtype[0] = unit == 1 ? '|' : '<';
  if (header.fortran_order) to_c_order(array, header.item_bytes);
  return array;
}

Array read_npy(const std::filesystem::path& path) { return decode_npy(read_file(path), path.string()); }

std::string encode_npy(const Array& array) {
  const std::string header = npy_header(array.dtype, array.shape);
  const NpyHeader parsed = parse_npy_header(header, "an array to write");
  EPD_REQUIRE(parsed.data_bytes == array.bytes.size(), "an array to write has ", array.bytes.size(),
              " bytes instead of ", parsed.data_bytes);
  return header + array.bytes;
}

NpyRows::NpyRows(const std::filesystem::path& path, std::string dtype, std::vector<std::size_t> row_shape,
                 Durability durability)
    : file_(path, durability),
      dtype_(std::move(dtype)),
      row_shape_(std::move(row_shape)),
      row_bytes_(row_bytes_of(dtype_, row_shape_)) {
  EPD_REQUIRE(row_bytes_ > 0, "cannot write ", path.string(), ": its rows are empty");
  file_.append(npy_header(dtype_, with_rows(0, row_shape_)));
}

void NpyRows::append(std::string_view bytes) {
  EPD_REQUIRE(bytes.size() % row_bytes_ == 0, "cannot write ", file_.path().string(), ": ", bytes.size(),
              " bytes are not whole rows of ", row_bytes_);
  file_.append(bytes);
  rows_ += bytes.size() / row_bytes_;
}

void NpyRows::finish() {
  file_.write_at(0, npy_header(dtype_, with_rows(rows_, row_shape_)));
  file_.commit();
}

}  // namespace epd
