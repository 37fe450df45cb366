#include "epd/metrics/feature_sums.h"

#include <ATen/ATen.h>

#include "epd/core/error.h"
#include "epd/distributed/process_group.h"

namespace epd {

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

void FeatureSums::merge(const FeatureSums& other) {
  EPD_REQUIRE(other.num_features() == num_features(), "cannot merge sums of ", other.num_features(),
              " features into sums of ", num_features());
  if (other.count_ == 0) return;
  const auto total = count_ + other.count_;
  const auto share = static_cast<double>(other.count_) / static_cast<double>(total);
  const auto mean_here = mean();
  const auto gap = other.mean().to(shift_.device()) - mean_here;
  const auto between = at::outer(gap, gap) * (share * static_cast<double>(count_));
  assign(total, mean_here + share * gap, scatter() + other.scatter().to(shift_.device()) + between);
}

void FeatureSums::all_reduce(ProcessGroup& group) {
  if (group.size() == 1) return;
  auto count = at::full({1}, count_, shift_.options().dtype(at::kLong));
  group.all_reduce_sum(count, "number of pictures");
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
  EPD_REQUIRE(count_ >= 2, "a covariance needs at least 2 pictures, there ", count_ == 1 ? "is " : "are ", count_);
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
