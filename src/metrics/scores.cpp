#include "epd/metrics/scores.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>

#include "epd/core/error.h"
#include "epd/metrics/tensor_arrays.h"

namespace epd {
namespace {

JsonObject to_json(const FrechetTerms& terms) {
  JsonObject json;
  json.add("distance", terms.distance()).add("mean_gap", terms.mean_gap);
  json.add("trace_generated", terms.trace_a).add("trace_reference", terms.trace_b).add("cross", terms.cross);
  json.add("rank_generated", terms.rank_a).add("rank_reference", terms.rank_b);
  return json;
}

JsonObject to_json(const Kid& kid) {
  JsonObject json;
  json.add("mean", kid.mean).add("std", kid.deviation).add("better", "lower");
  json.add("subsets", kid.subsets).add("subset_size", kid.subset_size).add("seed", kid.seed);
  return json;
}

JsonObject to_json(const Prdc& prdc) {
  JsonObject json;
  json.add("precision", prdc.precision).add("recall", prdc.recall);
  json.add("density", prdc.density).add("coverage", prdc.coverage).add("better", "higher");
  json.add("k_precision_recall", prdc.manifold_k).add("k_density_coverage", prdc.density_k);
  json.add("num_generated", prdc.num_generated).add("num_real", prdc.num_real);
  return json;
}

void require_features(const FeatureSet& set) {
  EPD_REQUIRE(set.features.defined(), set.statistics.source,
              " holds no features, which KID and PRDC need: give images, or make it with fid ref --save_features");
}

}  // namespace

Metrics Metrics::parse(const std::string& names) {
  Metrics metrics{.fid = false};
  std::istringstream list(names);
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

JsonObject Scores::json() const {
  JsonObject json;
  if (frechet) json.add("fid", fid()).add("frechet", to_json(*frechet));
  if (kid) json.add("kid", to_json(*kid));
  if (prdc) json.add("prdc", to_json(*prdc));
  return json;
}

Scores score(const FeatureSet& generated, const FeatureSet& reference, const Metrics& metrics, at::Device device) {
  require_same_detector(generated.statistics, reference.statistics);
  Scores scores;
  if (metrics.need_features()) {
    require_features(generated);
    require_features(reference);
  }
  if (metrics.fid) scores.frechet = frechet_terms(generated.statistics, reference.statistics, device);
  if (metrics.kid) {
    scores.kid = kernel_distance(generated.features.to(device), reference.features.to(device), metrics.kid_options);
  }
  if (metrics.prdc) {
    scores.prdc = prdc(generated.features.to(device), reference.features.to(device), metrics.prdc_options);
  }
  return scores;
}

}  // namespace epd
