#include "epd/sampling/sample_options.h"

#include <torch/version.h>

#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/chunked.h"
#include "epd/denoiser/device.h"
#include "epd/documents/model_facts_json.h"
#include "epd/documents/plan_json.h"
#include "epd/files/options_json.h"
#include "epd/sampling/common_options.h"
#include "epd/sampling/sampler.h"

namespace epd {

Options options_of(MethodOptions& o) {
  using namespace option_help;
  const auto of = [](const char* option, const char* what) {
    return text(solvers_that_know(option, ", "), ": ", what);
  };
  const auto predictors_or = [](const char* value) { return text("the predictor's, else ", value); };
  return Options("Solver")
      .add("predictor_path", o.predictor_path,
           help("predictor: file, folder or experiment number").decides_content().reads().as("FILE|NUMBER"))
      .add("force_predictor", o.force_predictor, help(kForcePredictor).decides_result())
      .add("solver", o.solver, help("classical solver instead of a predictor").decides_result().otherwise("none"))
      .add("plan", o.plan,
           help("plan file (exp/README.md) instead of a predictor or solver").decides_content().reads().as("FILE"))
      .add("num_steps", o.num_steps,
           help("number of timestamps N")
               .decides_result()
               .in(between(ScheduleOptions::kMinSteps, ScheduleOptions::kMaxSteps))
               .otherwise(predictors_or("4")))
      .add("schedule_type", o.schedule_type,
           help(kSchedule).decides_result().otherwise(predictors_or("polynomial; flow models: flowmatch")))
      .add("schedule_rho", o.schedule_rho,
           help("exponent of the schedule; of flowmatch, its shift")
               .decides_result()
               .in(positive())
               .otherwise(predictors_or("7; flowmatch: the model's shift")))
      .add("sigma_min", o.range.min, help(kSigmaMin).decides_result().in(positive()))
      .add("sigma_max", o.range.max, help(kSigmaMax).decides_result().in(positive()))
      .add("sigmas", o.sigmas,
           help("times of a solver instead of a schedule: numbers, a file, or a name in exp/zoo/sigmas")
               .decides_content()
               .as("LIST|FILE"))
      .add("afs", o.afs, help(kAfs).decides_result().otherwise(predictors_or("False")))
      .add("max_order", o.max_order,
           help("order of a multistep solver").decides_result().otherwise(predictors_or("its highest")))
      .add("inner_steps", o.inner_steps,
           help(of("inner_steps", "timestamps within each interval, both ends included"))
               .decides_result()
               .otherwise("2, no extra timestamp"))
      .add("predict_x0", o.predict_x0,
           help(of("predict_x0", "data prediction instead of noise prediction")).decides_result().otherwise("True"))
      .add("lower_order_final", o.lower_order_final,
           help(of("lower_order_final", "lower the order in the last steps")).decides_result().otherwise("True"))
      .add("unipc_variant", o.unipc_variant,
           help(of("unipc_variant", "variant of B(h)")).decides_result().otherwise("bh2"))
      .add("deis_mode", o.deis_mode,
           help(of("deis_mode", "polynomials in VP time (tab), the noise level (rhoab) or its logarithm (logrho)"))
               .decides_result()
               .otherwise("tab"))
      .group("Guidance and condition")
      .add("guidance_type", o.guidance_type, help(kGuidance).decides_result().otherwise(predictors_or("none")))
      .add("guidance_rate", o.guidance_rate, help(kGuidanceRate).decides_result().otherwise(predictors_or("1")))
      .add("thresholding", o.thresholding, help(kThresholding).decides_result());
}

Options options_of(ConditionOptions& o) {
  return Options("Guidance and condition")
      .add("class", o.label, help("class label of all images").decides_result().otherwise("random, from each seed"))
      .add("prompt", o.prompt, help("prompt for all images").decides_result().otherwise("none"))
      .add("prompt_file,prompt_path", o.prompt_file,
           help("prompts, number i for seed i: one per line, or a CSV file with a column named text")
               .decides_content()
               .reads())
      .add("negative_prompt", o.negative_prompt,
           help("what images are guided away from (cfg); per image: a CSV's column negative_prompt")
               .decides_result()
               .otherwise("none"))
      .add("width", o.size.width,
           help("width of the images, where the model takes other sizes (0: its own)").decides_result().in(at_least(0)))
      .add("height", o.size.height, help("height likewise").decides_result().in(at_least(0)));
}

Options options_of(ScoreOptions& o) {
  using namespace option_help;
  return Options("Scores")
      .add("fid", o.reference,
           help("score the images against these statistics (.npz) or those of a dataset, as fid calc does")
               .reads()
               .as("FILE|NAME"))
      .add("metrics", o.metrics, help(kMetrics))
      .add("detector", o.detector, help(kDetector).reads().as("NAME|FILE"))
      .add("no_images", o.no_images, help("score only, write no images"));
}

Options options_of(SampleOptions& o) {
  using namespace option_help;
  Options options("Model");
  options
      .add("dataset_name", o.dataset_name,
           help("model to draw from (demo, cifar10, ...; default: the predictor's)").decides_result())
      .add("model_path", o.model_path, help(kModelPath).decides_content().reads().as("FILE"))
      .add(options_of(o.method))
      .add(options_of(o.condition));
  options.group("Sampling")
      .add("seeds", o.seeds, help("seeds, one image each: numbers and ranges (0-63,100), or random:N"))
      .add("batch", o.batch, help(kBatch).in(at_least(1)))
      .add("chunk", o.chunk, help(kChunk).decides_result().in(at_least(0)))
      .add("points_at_once", o.points_at_once, help(kPointsAtOnce).decides_result().in(at_least(0)))
      .add("decode_batch", o.decode_batch,
           help("latents per decoder pass, padded (0: 1 on the CPU, 8 on a GPU)").decides_result().in(at_least(0)))
      .add("precision", o.precision, help(kPrecision).decides_result())
      .add("engine", o.engine, help(kEngine))
      .add("offload", o.offload,
           help("on a GPU: text encoder, network and decoder there one at a time, for less memory"))
      .add("on_bad", o.on_bad, help(kOnBad).decides_job())
      .add("rng", o.random_device,
           help("random number generator: the CPU's, the same everywhere, or that of the device, as the public code "
                "has it")
               .decides_result());
  options.group("Output")
      .add("outdir", o.outdir,
           help("output folder (default: samples/<dataset>/<solver>_nfe<NFE>_npoints_<K>, with --grid below "
                "samples/grids)")
               .writes()
               .as("DIR"))
      .add("format", o.format, help("output format").decides_result())
      .add("grid", o.grid, help("write one image grid, grid.png, instead of separate PNGs").decides_result())
      .add("subdirs", o.subdirs, help("one subfolder per 1000 seeds").decides_result())
      .add("save_inters,return_inters", o.save_inters,
           help("save the states at all timestamps (inters/*.npy)").decides_result())
      .add("resume", o.resume, help("keep finished images, draw the missing ones"))
      .add("overwrite", o.overwrite, help("replace the images of an earlier run in the folder"))
      .add("writer_threads", o.writer_threads, help("threads that encode and write images").in(between(1, 256)))
      .add("explain", o.explain, help("print the steps and evaluations; draw nothing"))
      .add("json", o.json, help("print the result as JSON; with --explain, the whole plan"));
  return options.add(options_of(o.scoring));
}

namespace {

namespace fs = std::filesystem;
/// The dataset's name from the command line or the predictor; empty where only --model_path says what is drawn.
std::string dataset_for(const SampleOptions& o, const std::optional<NamedPredictor>& predictor) {
  if (!predictor) return o.dataset_name;
  const std::string& own = predictor->spec.dataset_name;
  const bool other = !o.dataset_name.empty() && o.dataset_name != own;
  EPD_REQUIRE_USAGE(!other || o.method.force_predictor.value_or(false), "dataset_name: the predictor was made for ",
                    own, ", got ", o.dataset_name, "; --force_predictor uses it all the same");
  return other ? o.dataset_name : own;
}

void require_pixels(const SampleOptions& o, const ModelFacts& facts) {
  const int channels = facts.latent ? facts.latent->image_channels : facts.channels;
  const bool as_png = o.format == SampleFormat::kPng || o.format == SampleFormat::kZip || o.grid;
  EPD_REQUIRE_USAGE(!as_png || channels == 1 || channels == 3, "format: the images of ", facts.dataset_name, " have ",
                    channels, " channels, which PNG cannot store; use --format npz or raw");
}

/// The options that ask for this method, with nothing unset but what the method does not know.
MethodOptions method_options(const Method& method) {
  MethodOptions o;
  o.guidance_type = method.guidance.kind;
  o.guidance_rate = method.guidance.rate;
  o.thresholding = method.guidance.thresholding;
  if (!method.plan_sha256.empty()) return o;
  o.num_steps = static_cast<int>(method.times.size());
  o.schedule_type = method.schedule.kind;
  o.schedule_rho = method.schedule.rho;
  o.afs = method.afs;
  if (method.predictor) return o;
  const auto& solver = method.baseline;
  o.max_order = solver.max_order.value_or(highest_order(solver.kind));
  o.inner_steps = solver.inner_steps;
  o.predict_x0 = solver.predict_x0;
  o.lower_order_final = solver.lower_order_final;
  o.unipc_variant = solver.unipc_variant;
  o.deis_mode = solver.deis_mode;
  return o;
}

fs::path default_outdir(const SampleOptions& o, const std::string& dataset, const Method& method) {
  const fs::path samples = o.grid && o.format == SampleFormat::kPng ? "samples/grids" : "samples";
  return samples / dataset / method.folder_name();
}

}  // namespace

SeedList read_seed_list(const std::string& text) {
  constexpr std::string_view kRandom = "random:";
  if (!text.starts_with(kRandom)) return parse_seeds(text);
  const auto count = read_number<std::int64_t>(text.substr(kRandom.size()), "seeds: random");
  EPD_REQUIRE_USAGE(count >= 1 && count <= 1'000'000, "seeds: random: expected 1 to 1000000, got ", count);
  std::random_device entropy;
  std::set<std::uint64_t> drawn;
  while (drawn.size() < static_cast<std::size_t>(count)) drawn.insert(entropy() >> 1);
  SeedList seeds(std::vector<std::uint64_t>(drawn.begin(), drawn.end()));
  seeds.random = true;
  return seeds;
}

const SampleOptions& SampleOptions::validated() const {
  SampleOptions copy = *this;
  options_of(copy).check();
  EPD_REQUIRE_USAGE(!seeds.empty(), "seeds: none given");
  EPD_REQUIRE_USAGE(!scoring.no_images || scoring.wanted(), "no_images: needs --fid, else there is nothing to do");
  return *this;
}

ResolvedSample resolve(const SampleOptions& options) {
  options.validated();
  auto predictor = find_method_predictor(options.method);
  const std::string dataset = dataset_for(options, predictor);
  const auto model_path = find_model(dataset, options.model_path);
  const auto facts = read_model_facts(model_path, options.condition.size);
  auto given = options.condition;
  require_pixels(options, facts);
  auto method = make_method(options.method, std::move(predictor), facts);
  given.cfg = method.guidance.kind == GuidanceKind::kClassifierFree;
  auto condition = given.resolved(facts);
  const std::string name = dataset.empty() ? facts.dataset_name : dataset;
  const auto outdir = options.outdir.empty() ? default_outdir(options, name, method) : options.outdir;
  return {model_path, facts, name, std::move(condition), std::move(method), outdir};
}

Manifest sample_manifest(SampleOptions o, const ResolvedSample& resolved, const TorchScriptModel& model,
                         int num_processes) {
  const auto given = options_json(options_of(o));
  const auto& method = resolved.method;
  // What is unset stands for a value: the same images have the same record, however they were asked for.
  o.dataset_name = resolved.dataset_name;
  o.method = method_options(method);
  o.condition = resolved.condition;
  o.chunk = chunk_or_default(o.chunk, model.device());
  o.decode_batch = decode_batch_or_default(o.decode_batch, model.device());
  o.precision = model.precision();
  if (model.device().is_cpu()) o.random_device = RandomDevice::kDevice;  // the same generator
  Json found{{"model_sha256", model.sha256()},    {"solver", method.solver},       {"times", method.times.values()},
             {"device", kind_of(model.device())}, {"software_version", version()}, {"torch_version", TORCH_VERSION}};
  if (method.predictor) found["predictor_sha256"] = method.predictor->sha256;
  if (!method.plan_sha256.empty()) found["plan_sha256"] = method.plan_sha256;
  if (model.compiled() != nullptr) found["compiled_sha256"] = model.compiled()->sha256();
  // A folder of images grows with every run; a file of images holds the seeds that it was made of.
  const bool packed = o.grid || o.format != SampleFormat::kPng;
  if (packed) found["seeds"] = seeds_text(o.seeds);
  Manifest manifest;
  manifest.settings = decisive_options(options_of(o), found);
  manifest.run = {{"model_path", resolved.model_path.string()},
                  {"nfe", method.nfe()},
                  {"evaluations", method.evaluations()},
                  {"processes", num_processes},
                  {"engine", model.compiled() != nullptr ? "compiled" : "torchscript"},
                  {"options", given}};
  if (!model.device().is_cpu()) manifest.run["device_name"] = device_name(model.device());
  if (!packed) manifest.run["seeds"] = seeds_text(o.seeds);
  if (o.seeds.random) manifest.run["random_seeds"] = o.seeds.size();
  return manifest;
}

Method method_without_model(const SampleOptions& options) {
  auto predictor = find_method_predictor(options.method);
  const std::string dataset = dataset_for(options, predictor);
  // A predictor that names its times needs nothing of the model; `discrete` without them does, and says so.
  const bool is_plan = !options.method.plan.empty();
  const bool absent =
      options.model_path.empty() && ((is_plan && dataset.empty()) || !fs::exists(model_location(dataset, "")));
  const auto facts = !absent     ? read_model_facts(find_model(dataset, options.model_path))
                     : predictor ? facts_of(predictor->spec)
                     : is_plan   ? facts_of(read_plan_file(options.method.plan))
                                 : read_model_facts(find_model(dataset, options.model_path));
  return make_method(options.method, std::move(predictor), facts);
}

}  // namespace epd
