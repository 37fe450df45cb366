#include "epd/metrics/scores.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/metrics/tensor_images.h"

namespace epd {
namespace {

Json json_of(const FrechetTerms& terms) {
  return {{"distance", terms.distance()},     {"mean_gap", terms.mean_gap}, {"trace_generated", terms.trace_a},
          {"trace_reference", terms.trace_b}, {"cross", terms.cross},       {"rank_generated", terms.rank_a},
          {"rank_reference", terms.rank_b}};
}

Json json_of(const Kid& kid) {
  return {{"mean", kid.mean},       {"std", kid.deviation},           {"better", "lower"},
          {"subsets", kid.subsets}, {"subset_size", kid.subset_size}, {"seed", kid.seed}};
}

Json json_of(const Prdc& prdc) {
  return {{"precision", prdc.precision},
          {"recall", prdc.recall},
          {"density", prdc.density},
          {"coverage", prdc.coverage},
          {"better", "higher"},
          {"k_precision_recall", prdc.manifold_k},
          {"k_density_coverage", prdc.density_k},
          {"num_generated", prdc.num_generated},
          {"num_real", prdc.num_real}};
}

/// A remark where the number depends on how few images there are.
void warn_of_few_images(const Kid& kid, const KidOptions& options) {
  if (kid.subset_size >= options.subset_size) return;
  log::warning("KID of subsets of ", kid.subset_size, " images, all of the smaller set, instead of ",
               options.subset_size, ": it is noisy, its deviation too small, and it compares with nothing else");
}

}  // namespace

Metrics Metrics::parse(const std::string& names) {
  Metrics metrics{.fid = false};
  auto list = stream_of(names);
  for (std::string name; std::getline(list, name, ',');) {
    EPD_REQUIRE_USAGE(name == "fid" || name == "kid" || name == "prdc",
                      "metrics: expected a list of fid, kid and prdc, got '", names, "'");
    (name == "fid" ? metrics.fid : name == "kid" ? metrics.kid : metrics.prdc) = true;
  }
  EPD_REQUIRE_USAGE(metrics.fid || metrics.kid || metrics.prdc, "metrics: expected a list of fid, kid and prdc");
  return metrics;
}

std::string Metrics::names() const {
  std::string names;
  for (const auto& [wanted, name] : {std::pair(fid, "fid"), std::pair(kid, "kid"), std::pair(prdc, "prdc")}) {
    if (wanted && !names.empty()) names.append(",");
    if (wanted) names.append(name);
  }
  return names;
}

double Scores::fid() const { return std::max(0.0, frechet.value().distance()); }

double Scores::headline() const { return frechet ? fid() : kid ? kid->mean : prdc.value().precision; }

Json Scores::json() const {
  auto json = Json::object();
  if (frechet) json.update({{"fid", fid()}, {"frechet", json_of(*frechet)}});
  if (kid) json["kid"] = json_of(*kid);
  if (prdc) json["prdc"] = json_of(*prdc);
  return json;
}

void require_features(const FeatureSet& set, const Metrics& metrics) {
  EPD_REQUIRE(!metrics.need_features() || set.features.defined(), set.statistics.source,
              " holds no features, which KID and PRDC need: give images, or make it with fid ref --save_features");
}

Scores score(const FeatureSet& generated, const FeatureSet& reference, const Metrics& metrics, at::Device device) {
  require_same_detector(generated.statistics, reference.statistics);
  require_features(generated, metrics);
  require_features(reference, metrics);
  Scores scores;
  if (metrics.fid) scores.frechet = frechet_terms(generated.statistics, reference.statistics, device);
  if (metrics.kid) {
    scores.kid = kernel_distance(generated.features.to(device), reference.features.to(device), metrics.kid_options);
    warn_of_few_images(*scores.kid, metrics.kid_options);
  }
  if (metrics.prdc) {
    scores.prdc = prdc(generated.features.to(device), reference.features.to(device), metrics.prdc_options);
  }
  return scores;
}

}  // namespace epd
