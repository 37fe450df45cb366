#pragma once

#include <cstddef>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "epd/documents/predictor_json.h"
#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"

namespace epd::testing {

/// The cases of tests/golden/solvers/<name>.json.
inline nlohmann::json golden_cases(const std::string& name) {
  std::ifstream file(std::string(EPD_SOURCE_DIR) + "/tests/golden/solvers/" + name + ".json");
  return nlohmann::json::parse(file).at("cases");
}

/// The denoiser of a case, whose flat states are [B, C, H, W] in order: the sample's label holds for its coordinates.
inline MixtureDenoiser golden_denoiser(const nlohmann::json& golden) {
  if (golden.at("labels").is_null()) return {};
  const auto shape = golden.at("shape").get<std::vector<std::size_t>>();
  MixtureDenoiser denoiser;
  for (const std::size_t label : golden.at("labels")) {
    denoiser.labels.insert(denoiser.labels.end(), shape[1] * shape[2] * shape[3], label);
  }
  return denoiser;
}

/// The classical solver of a case.
inline SolverOptions golden_options(const nlohmann::json& options) {
  SolverOptions o;
  o.kind = value_of(kSolverNames, options.at("solver").get<std::string>(), "solver");
  o.afs = options.value("afs", false) ? Afs::kAnalytical : Afs::kNo;
  o.inner_steps = options.value("inner_steps", 2);
  o.predict_x0 = options.value("predict_x0", true);
  o.lower_order_final = options.value("lower_order_final", true);
  if (options.contains("max_order")) o.max_order = options.at("max_order").get<int>();
  if (options.contains("variant")) {
    o.unipc_variant = value_of(kUnipcVariantNames, options.at("variant").get<std::string>(), "variant");
  }
  if (options.contains("deis_mode")) {
    o.deis_mode = value_of(kDeisModeNames, options.at("deis_mode").get<std::string>(), "deis_mode");
  }
  return o;
}

/// The predictor of a case: its options and raw parameters.
inline PredictorSpec golden_predictor(const nlohmann::json& golden, const std::string& student) {
  const auto& options = golden.at("options");
  PredictorSpec spec;
  spec.parameters().on_ipndm = value_of(kStudentNames, student, "student") == StudentKind::kIpndm;
  spec.dataset_name = "golden";
  spec.resolution = spec.channels = 1;
  spec.num_steps = options.at("num_steps");
  spec.num_points = options.at("num_points");
  spec.afs = options.at("afs").get<bool>() ? Afs::kAnalytical : Afs::kNo;
  spec.parameters().scale_dir = options.at("scale_dir");
  spec.parameters().scale_time = options.at("scale_time");
  spec.parameters().fcn = options.at("fcn");
  if (options.contains("max_order")) spec.parameters().max_order = options.at("max_order").get<int>();
  spec.t_steps = golden.at("t_steps").get<std::vector<double>>();
  for (const char* group : {"r_params", "weight_s", "scale_dir_params", "scale_time_params"}) {
    for (const auto& row : golden.at("parameters").at(group)) {
      for (const double value : row) spec.parameters().raw.push_back(value);
    }
  }
  return spec;
}

}  // namespace epd::testing
