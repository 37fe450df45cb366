#include "epd/files/npz.h"

#include <utility>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::string_view kSuffix = ".npy";

std::string label_of(const std::string& name, const ZipReader& zip) {
  return "array '" + name + "' in " + zip.path().string();
}

}  // namespace

NpzReader::NpzReader(const std::filesystem::path& path) : zip_(path, ZipReader::Check::kBoth) {
  for (std::size_t i = 0; i < zip_.size(); ++i) {
    const std::string& name = zip_.entries()[i].name;
    if (name.ends_with(kSuffix)) index_[name.substr(0, name.size() - kSuffix.size())] = i;
  }
  EPD_REQUIRE(!index_.empty(), "cannot read ", path.string(), ": the archive holds no arrays (.npy)");
}

std::vector<std::string> NpzReader::names() const {
  std::vector<std::string> result;
  for (const auto& [name, index] : index_) result.push_back(name);
  return result;
}

std::size_t NpzReader::entry(const std::string& name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) return found->second;
  std::string known;
  for (const auto& [other, index] : index_) known += (known.empty() ? "" : ", ") + other;
  throw Error(text("there is no array '", name, "' in ", zip_.path().string(), "; it holds ", known));
}

NpyHeader NpzReader::header(const std::string& name) const {
  const std::size_t index = entry(name);
  const NpyHeader header = parse_npy_header(zip_.read_start(index, kNpyHeaderRead), label_of(name, zip_));
  const std::uint64_t held = zip_.entries()[index].size - header.header_bytes;
  EPD_REQUIRE(header.data_bytes <= held, label_of(name, zip_), ": cut short, ", held, " bytes of data instead of ",
              header.data_bytes);
  return header;
}

Array NpzReader::read(const std::string& name) const {
  header(name);  // refuses objects and absurd shapes before the data are inflated
  return decode_npy(zip_.read(entry(name)), label_of(name, zip_));
}

void write_npz(const std::filesystem::path& path, const Arrays& arrays, Durability durability) {
  ZipWriter zip(path, durability);
  for (const auto& [name, array] : arrays) zip.add(name + std::string(kSuffix), encode_npy(array));
  zip.finish();
}

NpzRows::NpzRows(const std::filesystem::path& path, const std::string& name, std::string dtype,
                 std::vector<std::size_t> shape, Durability durability)
    : zip_(path, durability) {
  const std::string header = npy_header(dtype, shape);
  expected_bytes_ = parse_npy_header(header, "an array to write").data_bytes;
  zip_.begin(name + std::string(kSuffix));
  zip_.append(header);
}

void NpzRows::append(std::string_view bytes) {
  EPD_REQUIRE(rows_open_ && bytes.size() <= expected_bytes_ - written_bytes_, "cannot write ", zip_.path().string(),
              ": more rows than its shape has");
  zip_.append(bytes);
  written_bytes_ += bytes.size();
}

void NpzRows::end_rows() {
  if (!std::exchange(rows_open_, false)) return;
  EPD_REQUIRE(written_bytes_ == expected_bytes_, "cannot write ", zip_.path().string(), ": ", written_bytes_,
              " bytes of rows instead of ", expected_bytes_);
  zip_.end();
}

void NpzRows::add(const std::string& name, const Array& array) {
  end_rows();
  zip_.add(name + std::string(kSuffix), encode_npy(array));
}

void NpzRows::finish() {
  end_rows();
  zip_.finish();
}

}  // namespace epd
