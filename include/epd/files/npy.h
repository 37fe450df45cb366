#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "epd/files/atomic_file.h"

namespace epd {

/// An array as NumPy stores it: little-endian, C order. dtype is NumPy's name: "<f8", "<f4", "<f2", "<i8", "|u1",
/// "|b1", "<U12" (text), "|S3" (bytes) and so on.
struct Array {
  std::string dtype;
  std::vector<std::size_t> shape;  // empty: a scalar
  std::string bytes;

  static Array doubles(std::vector<std::size_t> shape, const std::vector<double>& values);
  static Array floats(std::vector<std::size_t> shape, const std::vector<float>& values);
  static Array int64s(std::vector<std::size_t> shape, const std::vector<std::int64_t>& values);
  static Array uint8s(std::vector<std::size_t> shape, const std::vector<std::uint8_t>& values);
  /// Scalars, as np.array(value) makes them; text is UTF-8.
  static Array scalar(double value);
  static Array scalar(std::int64_t value);
  static Array text(std::string_view value);

  std::size_t size() const;  // the product of shape
  std::size_t item_bytes() const;
  bool is_text() const;
  bool is_uint8() const { return dtype == "|u1"; }
  /// Every value of a numeric or bool array as float64, in C order. Throws Error for text.
  std::vector<double> as_doubles() const;
  /// Integers (and bools) only. Throws Error for others.
  std::vector<std::int64_t> as_int64s() const;
  /// The pixels of a uint8 array. Throws Error for others.
  const std::uint8_t* as_uint8() const;
  /// The one text of a scalar (or one-item) text or bytes array, as UTF-8. Throws Error for others.
  std::string as_text() const;
};

/// What stands before the data of a .npy file, versions 1 to 3.
struct NpyHeader {
  std::string dtype;  // as in the file: may be big-endian
  bool fortran_order = false;
  std::vector<std::size_t> shape;
  std::size_t header_bytes = 0;  // where the data begin
  std::size_t item_bytes = 0;
  std::uint64_t data_bytes = 0;  // what shape and dtype ask for
};

/// Reads the header at the start of `start` (the first bytes of a .npy, at least kNpyHeaderRead or all there are).
/// Objects (pickles), structured dtypes and absurd shapes throw Error that begins with `name`.
NpyHeader parse_npy_header(std::string_view start, const std::string& name);
inline constexpr std::size_t kNpyHeaderRead = 70000;

/// A whole .npy in memory; Fortran order and big-endian are converted. `name` stands in errors. Nothing is allocated
/// beyond what `bytes` really holds.
Array decode_npy(std::string_view bytes, const std::string& name);
Array read_npy(const std::filesystem::path& path);

/// The bytes that numpy.load reads as this array (header version 1, data aligned to 64 bytes).
std::string encode_npy(const Array& array);

/// The header alone, padded to the same length for every number of rows, so that it can be rewritten at the end.
std::string npy_header(const std::string& dtype, const std::vector<std::size_t>& shape);

/// A .npy of shape [rows, ...row_shape], written row by row and renamed into place by finish(), which enters the number
/// of rows.
class NpyRows {
 public:
  NpyRows(const std::filesystem::path& path, std::string dtype, std::vector<std::size_t> row_shape,
          Durability durability = Durability::kRename);
  /// One or more whole rows, as little-endian bytes in C order.
  void append(std::string_view bytes);
  void finish();

 private:
  AtomicFile file_;
  std::string dtype_;
  std::vector<std::size_t> row_shape_;
  std::size_t row_bytes_;
  std::size_t rows_ = 0;
};

}  // namespace epd
