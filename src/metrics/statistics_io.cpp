#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/version.h"
#include "epd/files/npz.h"
#include "epd/metrics/statistics.h"
#include "epd/metrics/tensor_arrays.h"

namespace epd {
namespace {

at::Tensor read_required(const NpzReader& npz, const std::string& where, const std::string& name) {
  std::string names;
  for (const auto& other : npz.names()) names += (names.empty() ? "" : ", ") + other;
  EPD_REQUIRE(npz.has(name), where, ": no array '", name, "' (there is: ", names.empty() ? "nothing" : names, ")");
  const auto array = npz.read(name);
  EPD_REQUIRE(array.dtype.size() > 1 && array.dtype[1] == 'f', where, ": array '", name,
              "' should be of floating-point numbers, it is ", array.dtype);
  return to_double_tensor(array);
}

/// The text of a scalar that this program wrote; empty where another program uses the name for something else.
std::string read_optional_text(const NpzReader& npz, const std::string& name) {
  if (!npz.has(name)) return "";
  const auto array = npz.read(name);
  return array.is_text() && array.size() == 1 ? array.as_text() : "";
}

std::int64_t read_optional_count(const NpzReader& npz) {
  if (!npz.has("count")) return 0;
  const auto array = npz.read("count");
  const bool integer = array.dtype.size() > 1 && (array.dtype[1] == 'i' || array.dtype[1] == 'u');
  return integer && array.size() == 1 ? std::max<std::int64_t>(array.as_int64s().front(), 0) : 0;
}

}  // namespace

Statistics read_statistics(const std::filesystem::path& path) {
  const std::string where = path.string();
  const NpzReader npz(path);
  Statistics statistics;
  statistics.mu = read_required(npz, where, "mu");
  statistics.sigma = read_required(npz, where, "sigma");
  require_valid(statistics, where);
  statistics.sigma = (statistics.sigma + statistics.sigma.t()) / 2;
  statistics.count = read_optional_count(npz);
  EPD_REQUIRE(statistics.count != 1, where, ": its count is 1, a covariance needs at least 2 pictures");
  statistics.detector = read_optional_text(npz, "detector");
  statistics.detector_sha256 = read_optional_text(npz, "detector_sha256");
  statistics.source = where;
  return statistics;
}

Arrays statistics_arrays(const Statistics& statistics) {
  return {{"mu", to_array(statistics.mu)},
          {"sigma", to_array(statistics.sigma)},
          {"count", Array::scalar(statistics.count)},
          {"detector", Array::text(statistics.detector)},
          {"detector_sha256", Array::text(statistics.detector_sha256)},
          {"source", Array::text(statistics.source)},
          {"version", Array::text(text("epd ", version()))}};
}

}  // namespace epd
