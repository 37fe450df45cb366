#include "sample_manifest.h"

#include <torch/version.h>

#include "epd/core/seeds.h"
#include "epd/core/sha256.h"
#include "epd/core/version.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/json_writer.h"

namespace epd {
namespace {

std::string json_bool(bool value) { return value ? "true" : "false"; }

void add_method(Manifest& manifest, const Method& method) {
  manifest.set("solver", json_string(method.solver));
  if (method.predictor) {
    manifest.set("predictor_sha256", json_string(method.predictor->sha256));
  } else {
    const auto& solver = method.baseline;
    manifest.set("max_order", std::to_string(solver.max_order.value_or(highest_order(solver.kind))));
    manifest.set("inner_steps", std::to_string(solver.inner_steps));
    manifest.set("predict_x0", json_bool(solver.predict_x0));
    manifest.set("lower_order_final", json_bool(solver.lower_order_final));
    manifest.set("unipc_variant", json_string(name_of(kUnipcVariantNames, solver.unipc_variant)));
    manifest.set("deis_mode", json_string(name_of(kDeisModeNames, solver.deis_mode)));
  }
  manifest.set("schedule", json_string(schedule_tag(method.schedule)));
  manifest.set("times", json_numbers(method.times.values()));
  manifest.set("afs", json_afs(method.afs));
  manifest.set("guidance_type", json_string(name_of(kGuidanceNames, method.guidance.kind)));
  manifest.set("guidance_rate", json_number(method.guidance.rate));
  manifest.set("thresholding", json_bool(method.guidance.thresholding));
}

void add_condition(Manifest& manifest, const ConditionOptions& condition) {
  manifest.set("class", condition.label ? std::to_string(*condition.label) : "null");
  manifest.set("prompt", condition.prompt ? json_string(*condition.prompt) : "null");
  const auto& file = condition.prompt_file;
  manifest.set("prompt_file_sha256", file.empty() ? "null" : json_string(sha256_of_file(file)));
}

}  // namespace

Manifest manifest_of(const SampleOptions& options, const ResolvedSample& resolved, const TorchScriptModel& model,
                     const ChunkOptions& chunks, int num_processes) {
  Manifest manifest;
  // Settings: each of them changes the images or what their files are called.
  manifest.set("dataset_name", json_string(resolved.dataset_name));
  manifest.set("model_sha256", json_string(model.sha256()));
  add_method(manifest, resolved.method);
  add_condition(manifest, resolved.condition);
  manifest.set("chunk", std::to_string(chunks.chunk));
  manifest.set("points_at_once", std::to_string(chunks.points_at_once));
  manifest.set("decode_batch", std::to_string(decode_batch_or_default(options.decode_batch, model.device())));
  manifest.set("precision", json_string(name_of(kPrecisionNames, model.precision())));
  manifest.set("device", json_string(model.device().is_cpu() ? "cpu" : "cuda"));
  manifest.set("rng", json_string(name_of(kRandomDeviceNames, options.random_device)));
  manifest.set("software_version", json_string(version()));
  manifest.set("torch_version", json_string(TORCH_VERSION));
  manifest.set("format", json_string(name_of(kSampleFormatNames, options.format)));
  manifest.set("grid", json_bool(options.grid));
  manifest.set("subdirs", json_bool(options.subdirs));
  manifest.set("save_inters", json_bool(options.save_inters));
  // A folder of images grows with every run; a file of images holds the seeds that it was made of.
  const bool packed = options.grid || options.format != SampleFormat::kPng;
  if (packed) manifest.set("seeds", json_string(seeds_text(options.seeds)));
  // Notes: how this run went about it. They leave the images as they are.
  if (!packed) manifest.note("seeds", json_string(seeds_text(options.seeds)));
  manifest.note("model_path", json_string(resolved.model_path.string()));
  const auto& predictor = resolved.method.predictor;
  manifest.note("predictor_path", predictor ? json_string(predictor->path.string()) : "null");
  manifest.note("nfe", std::to_string(resolved.method.nfe()));
  manifest.note("evaluations", std::to_string(resolved.method.evaluations()));
  manifest.note("batch", std::to_string(options.batch));
  manifest.note("processes", std::to_string(num_processes));
  manifest.note("writer_threads", std::to_string(options.writer_threads));
  if (!options.command_line.empty()) manifest.note("options", options.command_line);
  return manifest;
}

}  // namespace epd
