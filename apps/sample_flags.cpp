#include "sample_flags.h"

#include "epd/core/seeds.h"
#include "fid_flags.h"

namespace epd::cli {
namespace {

std::string predictors_or(const char* otherwise) { return std::string("the predictor's, else ") + otherwise; }

void add_model_flags(CLI::App& app, SampleOptions& o) {
  app.add_option("--dataset_name", o.dataset_name, "model to draw from (demo, cifar10, ...; unset: the predictor's)");
  app.add_option("--model_path", o.model_path, "denoiser.ts (unset: where the dataset's model is kept)")
      ->type_name("FILE");
}

void add_method_flags(CLI::App& app, MethodOptions& o) {
  app.add_option("--predictor_path", o.predictor_path, "predictor: file, folder or experiment number")
      ->type_name("FILE|NUMBER");
  add_choice(app, "--solver", o.solver, kSolverNames, "classical solver in place of a predictor", "none");
  add_optional(app, "--num_steps", o.num_steps, "timestamps N of the grid", predictors_or("4"));
  add_choice(app, "--schedule_type", o.schedule_type, kScheduleNames, "where the timestamps lie",
             predictors_or("polynomial"));
  add_optional(app, "--schedule_rho", o.schedule_rho, "exponent of the schedule", predictors_or("7"));
  add_afs(app, o.afs, predictors_or("False"));
  add_optional(app, "--max_order", o.max_order, "order of a multistep solver", predictors_or("its highest"));
  add_optional(app, "--inner_steps", o.inner_steps,
               solvers_that_know("inner_steps", ", ") + ": points of each interval, ends included",
               "2: no point in between");
  add_bool(app, "--predict_x0", o.predict_x0,
           solvers_that_know("predict_x0", ", ") + ": extrapolate the denoised image, not the noise", "True");
  add_bool(app, "--lower_order_final", o.lower_order_final,
           solvers_that_know("lower_order_final", ", ") + ": lower order in the last steps", "True");
  add_choice(app, "--unipc_variant", o.unipc_variant, kUnipcVariantNames,
             solvers_that_know("unipc_variant", ", ") + ": its function B(h)", "bh2");
  add_choice(app, "--deis_mode", o.deis_mode, kDeisModeNames,
             solvers_that_know("deis_mode", ", ") + ": variable of its polynomials, VP time or noise level", "tab");
  add_choice(app, "--guidance_type", o.guidance_type, kGuidanceNames,
             "guidance: cg by the classifier, cfg classifier-free, uncond without the condition",
             predictors_or("none"));
  add_optional(app, "--guidance_rate", o.guidance_rate, "strength of the guidance", predictors_or("1"));
  add_bool(app, "--thresholding", o.thresholding, "dynamic thresholding of the denoised images");
}

void add_condition_flags(CLI::App& app, SampleFlags& flags) {
  auto& o = flags.options.condition;
  add_optional(app, "--class", o.label, "one class for all images", "drawn from each seed");
  add_optional(app, "--prompt", o.prompt, "one text for all images", "none");
  app.add_option("--prompt_file", flags.prompt_file, "texts, number i for seed i: lines, or a CSV with a column text")
      ->type_name("FILE");
}

void add_run_flags(CLI::App& app, SampleFlags& flags) {
  auto& o = flags.options;
  app.add_option("--seeds", flags.seeds, "one image each: numbers and ranges (0-63,100)")->type_name("LIST");
  app.add_option("--batch", o.batch, "images at a time, over all processes");
  app.add_option("--chunk", o.chunk,
                 "images in one forward of the network, always as many (0: 16 on the CPU, 64 on a GPU)");
  app.add_option("--points_at_once", o.points_at_once, "parallel points in one forward (0: all)");
  app.add_option("--decode_batch", o.decode_batch,
                 "latents decoded in one forward, always as many (0: 1 on the CPU, 8 on a GPU)");
  add_choice(app, "--precision", o.precision, kPrecisionNames, "of the network inside the model");
  add_choice(app, "--rng", o.random_device, kRandomDeviceNames, "where the seeds' random numbers are drawn");
}

void add_output_flags(CLI::App& app, SampleFlags& flags) {
  auto& o = flags.options;
  app.add_option("--outdir", flags.outdir, "unset: samples/<dataset>/<solver>_nfe<NFE>_npoints_<K>")->type_name("DIR");
  add_choice(app, "--format", o.format, kSampleFormatNames, "how the images are kept");
  add_bool(app, "--grid", o.grid, "one picture of all images, grid.png, in place of the folder of PNGs");
  add_bool(app, "--subdirs", o.subdirs, "a sub folder for every 1000 seeds");
  add_bool(app, "--save_inters,--return_inters", o.save_inters, "keep the states at all grid points (inters/*.npy)");
  add_bool(app, "--resume", o.resume, "keep finished images, draw the missing ones");
  add_bool(app, "--overwrite", o.overwrite, "replace the images of an earlier run in the folder");
  app.add_option("--writer_threads", o.writer_threads, "threads that encode and write");
  add_bool(app, "--explain", flags.explain, "print the plan and its evaluations; draw nothing");
  add_bool(app, "--json", flags.json, "the result, or with --explain the whole plan, as JSON");
}

void add_score_flags(CLI::App& app, SampleFlags& flags) {
  auto& o = flags.options.scoring;
  app.add_option("--fid", flags.reference, "score the images against these statistics, as fid calc would")
      ->type_name("FILE|NAME");
  app.add_option("--metrics", flags.metrics, "any of fid, kid and prdc (precision, recall, density, coverage)");
  app.add_option("--detector", o.detector, "feature network (unset: inception, for the demo its own)")
      ->type_name("NAME|FILE");
  add_bool(app, "--no_images", o.no_images, "score only, write no images");
}

}  // namespace

void add_flags(CLI::App& app, SampleFlags& flags) {
  add_model_flags(app, flags.options);
  add_method_flags(app, flags.options.method);
  add_condition_flags(app, flags);
  add_run_flags(app, flags);
  add_output_flags(app, flags);
  add_score_flags(app, flags);
  add_common(app, flags.common);
}

SampleOptions read_options(const CLI::App& app, const SampleFlags& flags) {
  SampleOptions options = flags.options;
  options.seeds = parse_seeds(flags.seeds);
  options.condition.prompt_file = flags.prompt_file;
  options.outdir = flags.outdir;
  options.scoring.metrics = Metrics::parse(flags.metrics);
  if (!flags.reference.empty()) options.scoring.reference = find_reference(flags.reference);
  options.command_line = used_options(app).dump();
  return options.validated();
}

}  // namespace epd::cli
