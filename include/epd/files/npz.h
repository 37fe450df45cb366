#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "epd/files/npy.h"
#include "epd/files/zip.h"

namespace epd {

/// Arrays by name, as numpy.savez writes and numpy.load reads them.
using Arrays = std::map<std::string, Array>;

/// Opens an .npz and reads the arrays that are asked for. Errors are one line with the file's and the array's name.
class NpzReader {
 public:
  explicit NpzReader(const std::filesystem::path& path);
  /// The arrays' names, without ".npy", sorted.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return index_.contains(name); }
  /// dtype and shape, without reading the data.
  NpyHeader header(const std::string& name) const;
  Array read(const std::string& name) const;
  const ZipReader& zip() const { return zip_; }
  std::size_t entry(const std::string& name) const;

 private:
  ZipReader zip_;
  std::map<std::string, std::size_t> index_;
};

/// Writes the arrays, uncompressed, sorted by name: the same bytes for the same arrays.
void write_npz(const std::filesystem::path& path, const Arrays& arrays, Durability durability = Durability::kRename);

/// An .npz with one array of shape [rows, ...row_shape], whose number of rows is known before, written row by row;
/// further arrays may be added after the rows. Renamed into place by finish().
class NpzRows {
 public:
  NpzRows(const std::filesystem::path& path, const std::string& name, std::string dtype, std::vector<std::size_t> shape,
          Durability durability = Durability::kRename);
  /// One or more whole rows, as little-endian bytes in C order.
  void append(std::string_view bytes);
  /// Another array, once the rows are complete.
  void add(const std::string& name, const Array& array);
  /// Throws Error unless exactly shape[0] rows were appended.
  void finish();

 private:
  void end_rows();

  ZipWriter zip_;
  std::uint64_t expected_bytes_;
  std::uint64_t written_bytes_ = 0;
  bool rows_open_ = true;
};

}  // namespace epd
