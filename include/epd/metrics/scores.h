#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <optional>
#include <string>

#include "epd/core/options.h"
#include "epd/files/json.h"
#include "epd/metrics/frechet.h"
#include "epd/metrics/kid_prdc.h"
#include "epd/metrics/scorer.h"

namespace epd {

/// Which metrics to compute, and how.
struct Metrics {
  bool fid = true, kid = false, prdc = false;
  KidOptions kid_options;
  PrdcOptions prdc_options;

  /// "fid,kid,prdc": any of them. Throws UsageError for others.
  static Metrics parse(const std::string& names);
  std::string names() const;
  /// Whether the features themselves are needed, not only their mean and covariance.
  bool need_features() const { return kid || prdc; }
};

template <>
struct OptionValue<Metrics> {
  static constexpr auto kKind = Option::Kind::kText;
  static std::string type() { return "LIST"; }
  static Metrics read(const std::string& word, const std::string&) { return Metrics::parse(word); }
  static std::string write(const Metrics& metrics) { return metrics.names(); }
};

struct Scores {
  std::optional<FrechetTerms> frechet;
  std::optional<Kid> kid;
  std::optional<Prdc> prdc;

  /// The Frechet distance as it is reported: rounding below zero is zero.
  double fid() const;
  /// What stands alone on the last line: the first of fid, the KID's mean and precision that was asked for.
  double headline() const;
  /// Every number with its settings.
  Json json() const;
};

/// Throws Error where the metrics need features and the set has none.
void require_features(const FeatureSet& set, const Metrics& metrics);

/// Compares the images with the reference. Throws Error where the detectors differ or features are missing.
Scores score(const FeatureSet& generated, const FeatureSet& reference, const Metrics& metrics,
             at::Device device = at::kCPU);

}  // namespace epd
