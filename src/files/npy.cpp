#include "epd/files/npy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "epd/core/error.h"

namespace epd {
namespace {

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

void write_npy(const std::filesystem::path& path, const Array& array, Durability durability) {
  write_file(path, encode_npy(array), durability);
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
