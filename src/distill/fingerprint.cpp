#include "fingerprint.h"

#include <sstream>

#include "epd/core/sha256.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/json_writer.h"

namespace epd {
namespace {

/// What only some runs have stands in their fingerprints alone.
void add_where_used(JsonObject& json, const TrainOptions& o, const PredictorSpec& start) {
  if (o.alpha_from > 0) json.add("alpha_from", o.alpha_from);
  if (o.schedule_tea) json.add("schedule_tea", name_of(kScheduleNames, *o.schedule_tea));
  if (o.schedule_rho_tea) json.add("schedule_rho_tea", *o.schedule_rho_tea);
  if (o.val_images > 0) {
    json.add("val_images", o.val_images).add("val_every", o.val_every).add("patience", o.patience);
  }
  if (o.student == StudentKind::kNs) {
    json.add("start", sha256_hex(predictor_text(start)));
    json.add("lr_weights", o.rates.weights).add("lr_times", o.rates.times).add("lr_sigmas", o.rates.sigmas);
  }
}

}  // namespace

std::string fingerprint_of(const TrainOptions& o, const PredictorSpec& start, const OpenedModel& model,
                           const std::string& detector_sha256, std::int64_t chunk) {
  const auto order = [](const std::optional<int>& value) { return value ? std::to_string(*value) : "none"; };
  JsonObject json;
  json.add("model", model.model->sha256()).add("detector", detector_sha256);
  json.add("precision", name_of(kPrecisionNames, model.model->precision())).add("chunk", chunk);
  json.add("dataset_name", o.dataset_name).add("sampler_stu", name_of(kStudentNames, o.student));
  json.add("num_steps", o.num_steps).add("num_points", o.num_points);
  json.raw("afs", json_afs(o.afs)).add("fcn", o.fcn);
  json.add("schedule_type", name_of(kScheduleNames, o.schedule_kind)).add("schedule_rho", o.schedule_rho);
  json.add("scale_dir", o.scale_dir).add("scale_time", o.scale_time).add("init", o.resolved_init());
  json.add("max_order", order(o.max_order)).add("max_order_stu", order(o.max_order_stu));
  json.add("max_order_tea", order(o.max_order_tea)).add("sampler_tea", name_of(kSolverNames, o.teacher));
  json.add("M", o.num_inserted).add("inner_steps", order(o.inner_steps)).add("predict_x0", o.predict_x0);
  json.add("lower_order_final", o.lower_order_final).add("teacher_cache", o.teacher_cache);
  json.add("guidance_type", name_of(kGuidanceNames, o.guidance_type)).add("thresholding", o.thresholding);
  json.add("guidance_rate", o.guidance_rate.value_or(1)).add("objective", name_of(kObjectiveNames, o.objective));
  json.add("loss_metric", name_of(kLossMetricNames, o.loss_metric)).add("alpha", o.alpha);
  json.add("total_kimg", o.total_kimg).add("batch", o.batch);
  json.add("lr", o.lr.value_or(o.kDefaultRate)).add("coslr", o.coslr).add("seed", o.seed);
  add_where_used(json, o, start);
  return json.pretty();
}

std::string first_difference(const std::string& before, const std::string& now) {
  std::istringstream a(before), b(now);
  std::string was, is;
  while (std::getline(a, was) && std::getline(b, is)) {
    if (was != is) return text("it had ", was, " and now is asked for ", is);
  }
  return "its options are of another version";
}

}  // namespace epd
