#include "epd/metrics/statistics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/run_main.h"
#include "epd/distributed/process_group.h"
#include "epd/files/npz.h"
#include "epd/metrics/tensor_images.h"

namespace epd {
namespace {

constexpr double kSymmetry = 1e-6;    // of the largest entry
constexpr double kNegativity = 1e-6;  // of the Frobenius norm

void require_finite(const at::Tensor& values, const std::string& where, const char* name) {
  EPD_REQUIRE(at::isfinite(values).all().item<bool>(), where, ": array '", name, "' holds NaN or infinite values");
}

/// One Cholesky factorisation tells whether an eigenvalue lies below -shift; eigenvalues are found for the text alone.
void require_not_negative(const at::Tensor& sigma, const std::string& where) {
  const double norm = sigma.norm().item<double>();
  if (norm == 0) return;
  const auto shifted = sigma + kNegativity * norm * at::eye(sigma.size(0), sigma.options());
  if (std::get<1>(at::linalg_cholesky_ex(shifted)).item<int>() == 0) return;
  const auto eigenvalues = at::linalg_eigvalsh(sigma);
  throw Error(text(where, ": array 'sigma' is not a covariance: its eigenvalues reach from ",
                   eigenvalues[0].item<double>(), " to ", eigenvalues[-1].item<double>()));
}

std::string detector_text(const Statistics& statistics) {
  if (statistics.detector.empty()) return "unknown";
  return statistics.detector_sha256.empty()
             ? statistics.detector
             : text(statistics.detector, " (sha256 ", statistics.detector_sha256.substr(0, 12), ")");
}

/// Published networks are known by name: their files differ (NVIDIA's own, an export) and compute the same.
bool may_be_same_detector(const Statistics& a, const Statistics& b) {
  const bool same_name = a.detector == b.detector;
  const bool published = a.detector == "inception" || a.detector == "inception-pytorch";
  if (a.detector.empty() || b.detector.empty() || (same_name && published)) return true;
  const bool hashes_known = !a.detector_sha256.empty() && !b.detector_sha256.empty();
  return hashes_known ? a.detector_sha256 == b.detector_sha256 : same_name;
}

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

std::int64_t read_optional_count(const NpzReader& npz, const std::string& name) {
  if (!npz.has(name)) return 0;
  const auto array = npz.read(name);
  const bool integer = array.dtype.size() > 1 && (array.dtype[1] == 'i' || array.dtype[1] == 'u');
  return integer && array.size() == 1 ? std::max<std::int64_t>(array.as_int64s().front(), 0) : 0;
}

bool starts_as_zip(const std::filesystem::path& path) {
  std::string start(4, '\0');
  std::ifstream(path, std::ios::binary).read(start.data(), 4);
  return start == "PK\x03\x04";
}

/// As an .npz holds them that NumPy reads with pickles off (EDM's loader too).
Arrays statistics_arrays(const Statistics& statistics) {
  Arrays arrays{{"mu", to_array(statistics.mu)},
                {"sigma", to_array(statistics.sigma)},
                {"count", Array::scalar(statistics.count)},
                {"detector", Array::text(statistics.detector)},
                {"detector_sha256", Array::text(statistics.detector_sha256)},
                {"source", Array::text(statistics.source)},
                {"version", Array::text(text("epd ", version()))}};
  if (statistics.skipped > 0) arrays.emplace("skipped", Array::scalar(statistics.skipped));
  return arrays;
}

}  // namespace

void require_valid(const Statistics& statistics, const std::string& where) {
  const auto& mu = statistics.mu;
  const auto& sigma = statistics.sigma;
  EPD_REQUIRE(mu.dim() == 1 && mu.size(0) > 0, where, ": array 'mu' should be [features], it is ", mu.sizes());
  EPD_REQUIRE(sigma.dim() == 2 && sigma.size(0) == sigma.size(1), where,
              ": array 'sigma' should be [features, features], it is ", sigma.sizes());
  EPD_REQUIRE(sigma.size(0) == mu.size(0), where, ": 'mu' has ", mu.size(0), " features, 'sigma' ", sigma.size(0));
  require_finite(mu, where, "mu");
  require_finite(sigma, where, "sigma");
  const double largest = sigma.abs().max().item<double>();
  const double asymmetry = (sigma - sigma.t()).abs().max().item<double>();
  EPD_REQUIRE(asymmetry <= kSymmetry * largest, where, ": array 'sigma' is not symmetric (off by ", asymmetry, ")");
  require_not_negative(sigma, where);
}

void require_same_detector(const Statistics& statistics, const Statistics& reference) {
  const std::string pair = text("the images have ", statistics.num_features(), " features of detector ",
                                detector_text(statistics), ", the reference ", reference.source, " has ",
                                reference.num_features(), " of detector ", detector_text(reference));
  EPD_REQUIRE(statistics.num_features() == reference.num_features(), pair,
              "; choose the reference's detector with --detector");
  EPD_REQUIRE(may_be_same_detector(statistics, reference), pair, "; features of different networks cannot be compared");
}

bool is_statistics_file(const std::filesystem::path& path) {
  std::error_code error;  // of what does not exist
  if (!std::filesystem::is_regular_file(path, error)) return false;
  const bool npz_name = path.extension() == ".npz";
  if (!npz_name && !starts_as_zip(path)) return false;
  const ZipReader zip(path);
  if (zip.find("mu.npy") || zip.find("sigma.npy")) return true;
  if (!npz_name) return false;
  const NpzReader npz(path);
  for (const auto& name : npz.names()) {
    const auto header = npz.header(name);
    if (header.dtype == "|u1" && header.shape.size() == 4) return false;
  }
  return true;
}

Statistics read_statistics(const std::filesystem::path& path) {
  const std::string where = path.string();
  const NpzReader npz(path);
  Statistics statistics;
  statistics.mu = read_required(npz, where, "mu");
  statistics.sigma = read_required(npz, where, "sigma");
  require_valid(statistics, where);
  statistics.sigma = (statistics.sigma + statistics.sigma.t()) / 2;
  statistics.count = read_optional_count(npz, "count");
  statistics.skipped = read_optional_count(npz, "skipped");
  EPD_REQUIRE(statistics.count != 1, where, ": its count is 1, a Frechet distance needs at least 2 images");
  statistics.detector = read_optional_text(npz, "detector");
  statistics.detector_sha256 = read_optional_text(npz, "detector_sha256");
  statistics.source = where;
  return statistics;
}

FeatureSet read_feature_set(const std::filesystem::path& path, bool with_features) {
  FeatureSet set{read_statistics(path), {}};
  const NpzReader npz(path);
  if (!with_features || !npz.has("features")) return set;
  set.features = to_float_tensor(npz.read("features"));
  EPD_REQUIRE(set.features.dim() == 2 && set.features.size(1) == set.statistics.num_features(), path.string(),
              ": array 'features' should be [images, ", set.statistics.num_features(), "], it is ",
              set.features.sizes());
  EPD_REQUIRE(at::isfinite(set.features).all().item<bool>(), path.string(),
              ": array 'features' holds NaN or infinite values");
  return set;
}

void write_feature_set(const std::filesystem::path& path, const FeatureSet& set) {
  require_valid(set.statistics, path.string());
  auto arrays = statistics_arrays(set.statistics);
  if (set.features.defined()) arrays.emplace("features", to_array(set.features));
  write_npz(path, arrays, Durability::kSync);
}

FeatureSums::FeatureSums(std::int64_t num_features, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kDouble);
  shift_ = at::zeros({num_features}, options);
  sum_ = at::zeros({num_features}, options);
  outer_ = at::zeros({num_features, num_features}, options);
}

void FeatureSums::add(const at::Tensor& features) {
  EPD_REQUIRE(features.dim() == 2 && features.size(1) == num_features(), "expected features [N, ", num_features(),
              "], got ", features.sizes());
  if (features.size(0) == 0) return;
  auto x = features.to(shift_.device(), at::kDouble);
  if (count_ == 0) shift_ = x.mean(0);
  x = x - shift_;
  count_ += x.size(0);
  sum_ += x.sum(0);
  outer_.addmm_(x.t(), x);
}

at::Tensor FeatureSums::mean() const { return count_ > 0 ? shift_ + sum_ / count_ : shift_; }

at::Tensor FeatureSums::scatter() const {
  if (count_ == 0) return outer_;
  return outer_ - at::outer(sum_, sum_) / count_;
}

void FeatureSums::assign(std::int64_t count, const at::Tensor& mean, const at::Tensor& scatter) {
  count_ = count;
  shift_ = mean;
  sum_ = at::zeros_like(mean);
  outer_ = scatter;
}

void FeatureSums::all_reduce(ProcessGroup& group) {
  if (group.size() == 1) return;
  auto count = at::full({1}, count_, shift_.options().dtype(at::kLong));
  group.all_reduce_sum(count, "number of images");
  const auto total = count.item<std::int64_t>();
  if (total == 0) return;
  const auto mean_here = mean();
  auto mean_of_all = mean_here * (static_cast<double>(count_) / static_cast<double>(total));
  group.all_reduce_sum(mean_of_all, "mean of the features");
  const auto gap = mean_here - mean_of_all;
  auto scatter_of_all = scatter() + at::outer(gap, gap) * count_;
  group.all_reduce_sum(scatter_of_all, "scatter of the features");
  assign(total, mean_of_all, scatter_of_all);
}

Statistics FeatureSums::statistics() const {
  EPD_REQUIRE(count_ >= 2, "a Frechet distance needs at least 2 images, there ", count_ == 1 ? "is " : "are ", count_);
  Statistics statistics;
  statistics.count = count_;
  statistics.mu = mean().cpu();
  const auto sigma = (scatter() / (count_ - 1)).cpu();
  statistics.sigma = (sigma + sigma.t()) / 2;
  EPD_REQUIRE(at::isfinite(statistics.mu).all().item<bool>() && at::isfinite(statistics.sigma).all().item<bool>(),
              "the detector gave features that are not finite");
  return statistics;
}

}  // namespace epd
