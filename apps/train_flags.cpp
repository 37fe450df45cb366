#include "train_flags.h"

#include "epd/core/seeds.h"
#include "fid_flags.h"

namespace epd::cli {
namespace {

void add_student_flags(CLI::App& app, TrainOptions& o) {
  add_choice(app, "--sampler_stu", o.student, kStudentNames,
             "student: EPD, EPD on iPNDM, or a whole plan, every number of it learned");
  app.add_option("--num_steps", o.num_steps,
                 "timestamps N of the student's grid: N - 1 steps of 2 evaluations (ns: of 1)");
  app.add_option("--num_points", o.num_points, "parallel points K of a step");
  add_choice(app, "--schedule_type", o.schedule_kind, kScheduleNames, "where the timestamps lie");
  app.add_option("--schedule_rho", o.schedule_rho, "exponent of the schedule (polynomial, time_uniform, discrete)");
  add_afs(app, o.afs);
  app.add_option("--scale_dir", o.scale_dir, "directions are scaled within [1 - scale_dir, 1 + scale_dir]");
  app.add_option("--scale_time", o.scale_time, "noise levels told are scaled within [1 - scale_time, 1 + scale_time]");
  add_bool(app, "--fcn", o.fcn, "no scaling of directions in the last step");
  add_optional(app, "--max_order", o.max_order, "order of multistep students and teachers", "their highest");
  add_optional(app, "--max_order_stu", o.max_order_stu, "the student's alone", "max_order");
  add_optional(app, "--max_order_tea", o.max_order_tea, "the teacher's alone", "max_order");
  app.add_option(
         "--init", o.init,
         "raw parameters at the start, normal or midpoint (unset: normal); for ns what it starts from, a solver "
         "on this grid or a predictor (unset: dpmpp)")
      ->type_name("NAME|FILE|NUMBER");
  app.add_option("--twin_shift", o.twin_shift,
                 "ns: the further points of a stage start at this multiple of its noise level");
}

void add_teacher_flags(CLI::App& app, TrainOptions& o) {
  add_choice(app, "--sampler_tea", o.teacher, kSolverNames, "teacher");
  add_choice(app, "--schedule_tea", o.schedule_tea, kScheduleNames, "where its timestamps lie, with end_to_end",
             "the student's");
  add_optional(app, "--schedule_rho_tea", o.schedule_rho_tea, "exponent of that schedule", "the student's");
  app.add_option("--M", o.num_inserted, "timestamps of the teacher between two of the student's");
  add_optional(app, "--inner_steps", o.inner_steps, "points of each of the teacher's intervals, ends included",
               "3 for heun and dpm, else 2: no point in between");
  add_bool(app, "--predict_x0", o.predict_x0,
           "teachers dpmpp and unipc: extrapolate the denoised image, not the noise");
  add_bool(app, "--lower_order_final", o.lower_order_final, "teachers dpmpp and unipc: lower order in the last steps");
  app.add_option("--teacher_cache", o.teacher_cache,
                 "train on this many trajectories again and again (0: fresh ones every iteration)");
}

void add_loss_flags(CLI::App& app, TrainFlags& flags) {
  auto& o = flags.run.options;
  add_choice(app, "--objective", o.objective, kObjectiveNames, "what is learned from: every step, or the end alone");
  add_choice(app, "--loss_metric", o.loss_metric, kLossMetricNames, "comparison of the last step");
  app.add_option("--alpha", o.alpha, "weight of the feature loss");
  app.add_option("--alpha_from", o.alpha_from, "share of the training after which features join l2 (l2+features)");
  app.add_option("--detector", flags.run.detector,
                 "feature network of the loss: a name or TorchScript (unset: inception, for the demo its own)")
      ->type_name("NAME|FILE");
  add_choice(app, "--guidance_type", o.guidance_type, kGuidanceNames,
             "guidance: cg by the classifier, cfg classifier-free, uncond without the condition");
  add_optional(app, "--guidance_rate", o.guidance_rate, "strength of the guidance", "1");
  add_bool(app, "--thresholding", o.thresholding, "dynamic thresholding of the denoised images");
  app.add_option("--prompt", flags.run.prompt, "one text for all training images (text models)");
  app.add_option("--prompt_path", flags.run.prompt_path, "captions to train on: lines, or a CSV with a column text")
      ->type_name("FILE");
}

void add_optimisation_flags(CLI::App& app, TrainFlags& flags) {
  auto& o = flags.run.options;
  app.add_option("--total_kimg", o.total_kimg, "thousands of images to train on");
  app.add_option("--batch", o.batch, "images per iteration, over all processes");
  add_optional(app, "--lr", o.lr, "learning rate of Adam (epd, ipndm)", "0.2");
  app.add_option("--lr_weights", o.rates.weights, "ns: learning rate of the weights of denoised images");
  app.add_option("--lr_times", o.rates.times, "ns: of the logarithms of the times");
  app.add_option("--lr_sigmas", o.rates.sigmas, "ns: of the logarithms of sigma / time");
  add_bool(app, "--coslr", flags.coslr, "cosine of the learning rate to 0.01 (ns: to 0)", "True for ns, else False");
  add_optional(app, "--val_images", flags.val_images,
               "images with seeds of their own on which the best predictor is found, the one that is kept; 0: the last",
               text(kPlanValidationImages, " for ns, else 0"));
  app.add_option("--val_every", o.val_every, "iterations between two validations");
  app.add_option("--patience", o.patience, "validations without a better one that end the training (0: none do)");
  app.add_option("--seed", o.seed, "of the parameters at the start and of all training images")
      ->check(CLI::Validator(CLI::NonNegativeNumber).description(""));  // "-1" would else be read as a large number
}

void add_run_flags(CLI::App& app, TrainFlags& flags) {
  auto& run = flags.run;
  app.add_option("--outdir", run.outdir, "where run folders are made")->type_name("DIR");
  app.add_option("--desc", run.desc, "appended to the folder's name");
  add_bool(app, "--nosubdir", run.nosubdir, "write into outdir itself");
  app.add_option("--resume", run.resume, "go on with this run, with its own options")->type_name("DIR|NUMBER");
  app.add_option("--tick", run.tick, "kimg between two lines of stats.jsonl");
  app.add_option("--snap", run.snap, "ticks between snapshots of the predictor (0: none)");
  app.add_option("--dump", run.dump, "ticks between resumable states, at most a minute apart (0: by the minute alone)");
  add_bool(app, "--dry_run,-n", flags.dry_run, "print the options and the plans; train nothing");
}

void add_evaluation_flags(CLI::App& app, TrainFlags& flags) {
  auto& o = flags.run.evaluation;
  app.add_option("--eval_every", o.every, "ticks between Frechet distances in stats.jsonl, to --fid (0: none)");
  app.add_option("--fid", flags.reference, "statistics (npz) that students are measured against, or a dataset's name")
      ->type_name("FILE|NAME");
  app.add_option("--eval_seeds", flags.eval_seeds, "seeds of the images that are measured; none is trained on")
      ->type_name("LIST");
  app.add_option("--eval_detector", o.detector, "feature network of --fid (unset: inception, for the demo its own)")
      ->type_name("NAME|FILE");
}

void add_resource_flags(CLI::App& app, TrainRun& run) {
  app.add_option("--batch_gpu", run.resources.batch_gpu, "images in one pass of a process (0: its whole share)");
  add_choice(app, "--adjoint", run.resources.adjoint, kAdjointMemoryNames,
             "run evaluations again for their gradients, or keep their activations: faster, more memory");
  app.add_option("--points_at_once", run.points_at_once, "parallel points in one forward (0: all)");
  app.add_option("--chunk", run.chunk,
                 "images in one forward of the network, always as many (0: 16 on the CPU, 64 on a GPU)");
  add_choice(app, "--precision", run.precision, kPrecisionNames, "of the network inside the model");
  add_bool(app, "--bench", run.bench, "let cuDNN time its algorithms first");
}

}  // namespace

void add_flags(CLI::App& app, TrainFlags& flags) {
  app.add_option("--dataset_name", flags.run.options.dataset_name, "model to distil for (demo, cifar10, ...)");
  app.add_option("--model_path", flags.run.model_path, "denoiser.ts (unset: where the dataset's model is kept)")
      ->type_name("FILE");
  add_student_flags(app, flags.run.options);
  add_teacher_flags(app, flags.run.options);
  add_loss_flags(app, flags);
  add_optimisation_flags(app, flags);
  add_run_flags(app, flags);
  add_evaluation_flags(app, flags);
  add_resource_flags(app, flags.run);
  add_common(app, flags.common);
}

TrainRun read_train(const TrainFlags& flags) {
  TrainRun run = flags.run;
  const bool whole_plan = run.options.student == StudentKind::kNs;
  run.options.coslr = flags.coslr.value_or(whole_plan);
  run.options.val_images = flags.val_images.value_or(whole_plan ? kPlanValidationImages : 0);
  if (!flags.reference.empty()) run.evaluation.reference = find_reference(flags.reference);
  run.evaluation.seeds = parse_seeds(flags.eval_seeds);
  return run;
}

}  // namespace epd::cli
