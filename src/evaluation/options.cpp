#include "epd/evaluation/compare.h"
#include "epd/evaluation/run_fid.h"
#include "epd/images/image_source.h"
#include "epd/sampling/common_options.h"

namespace epd {

using namespace option_help;

Options options_of(PictureOptions& o) {
  return Options("Images")
      .add("num", o.num, help("size of a random subset of the images").in(at_least(2)).otherwise("all"))
      .add("seed", o.seed, help("seed of the subset (NumPy's RandomState, as in EDM)"))
      .add("transparency,alpha", o.alpha, help(kTransparencyHelp))
      .add("allow_mixed_sizes", o.pass.allow_mixed_sizes, help("accept images of different sizes"))
      .add("on_bad", o.pass.on_bad, help(kOnBadHelp))
      .group("Network")
      .add("detector", o.detector,
           help("feature network: inception, inception-pytorch, demo, a TorchScript file, or NAME for "
                "models/NAME/NAME.ts in the cache")
               .reads()
               .otherwise("the one that --ref names, or inception")
               .as("NAME|FILE"))
      .add("chunk", o.chunk, help("images per forward pass, padded (0: 32 on the CPU, 128 on a GPU)").in(at_least(0)))
      .add("batch", o.pass.batch, help("images decoded ahead (affects memory only)").in(between(1, 1e6)))
      .add("workers", o.pass.workers,
           help("threads that decode images (0: the cores of a process, at most 8)").in(between(0, 1024)));
}

Options options_of(CalcOptions& o) {
  return Options("Scores")
      .add("images", o.pictures.path, help(kImagesHelp).reads().as("PATH").needed())
      .add("ref", o.reference,
           help("reference: statistics (.npz), images, or a dataset name (cifar10, ...)")
               .reads()
               .as("PATH|NAME")
               .needed())
      .add("metrics", o.metrics, help(kMetrics))
      .add("json", o.json, help("write all scores and settings to this JSON file (-: stdout)").writes())
      .add("report", o.report, help("write an HTML page with scores, images and plots").writes())
      .add(options_of(o.pictures));
}

Options options_of(RefOptions& o) {
  return Options("Statistics")
      .add("data", o.pictures.path, help(kImagesHelp).reads().as("PATH").needed())
      .add("dest", o.dest, help("the .npz file to write").writes().needed())
      .add("save_features", o.save_features, help("store the features too (needed for kid and prdc)"))
      .add(options_of(o.pictures));
}

Options options_of(CompareOptions& o) {
  Options options("Model");
  options.add("dataset_name", o.dataset_name, help("model to draw from (demo, cifar10, ...)").decides_result())
      .add("model_path", o.model_path, help(kModelPath).decides_content().reads().as("FILE"))
      .add("precision", o.precision, help(kPrecision).decides_result())
      .add("engine", o.engine, help(kEngine))
      .add("offload", o.offload, help("on a GPU: one of the model's networks there at a time, for less memory"));
  options.group("Rows")
      .add("predictors,predictor_path", o.predictors,
           help("predictors: files, folders or experiment numbers; path=name names the row").decides_result().reads())
      .add("plans", o.plans,
           help("plan files (exp/README.md); path=name names the row").decides_result().reads().as("FILE"))
      .add("zoo", o.zoo, help("all shipped predictors that were made for the model, exp/zoo included").decides_result())
      .add("solvers", o.solvers,
           help("classical solvers, solver:order@schedule:rho; only the solver is required").decides_result())
      .add("schedules", o.schedules,
           help("time schedules for solvers given without one")
               .decides_result()
               .otherwise("time_uniform polynomial logsnr; flow models: flowmatch"))
      .add("sigmas", o.sigmas,
           help("lists of times for solvers given without a schedule: files, or names in exp/zoo/sigmas")
               .decides_result()
               .as("FILE|NAME"))
      .add("sigma_min", o.range.min, help(kSigmaMin).decides_result().in(positive()))
      .add("sigma_max", o.range.max, help(kSigmaMax).decides_result().in(positive()))
      .add("force_predictor", o.force_predictor, help(kForcePredictor).decides_result())
      .add("nfe", o.nfe, help("NFE (serial evaluations) of the solvers").decides_result())
      .add("extra", o.extra, help("extra rows with their own NFE, solver:order@schedule:rho#nfe").decides_result())
      .add("exact", o.exact, help("reference trajectory, solver:order@schedule:rho#nfe").decides_result());
  options.group("Images")
      .add("seeds", o.seeds, help("seeds, one image each: numbers and ranges (0-511), or random:N").decides_result())
      .add("on_bad", o.on_bad, help(kOnBad))
      .add("batch", o.batch, help(kBatch).in(at_least(1)))
      .add("chunk", o.chunk, help(kChunk).decides_result().in(at_least(0)))
      .add("data", o.data,
           help("training data: images (folder, zip) or statistics (.npz) (default: no FD to data)")
               .decides_content()
               .reads()
               .as("FILE|DIR"))
      .add("detector", o.detector, help(kDetector).decides_content().reads().as("NAME|FILE"));
  options.group("Guidance and condition")
      .add("guidance_type", o.guidance_type, help(kGuidance).decides_result())
      .add("guidance_rate", o.guidance_rate, help(kGuidanceRate).decides_result())
      .add(options_of(o.condition));
  options.group("Output")
      .add("outdir", o.outdir,
           help("output folder: results.json, results.md, compare.png, compare.svg").writes().as("DIR"))
      .add("overwrite", o.overwrite, help("replace the results of another comparison in the folder"))
      .add("images_per_row,picture_images", o.picture_images, help("images per row of compare.png").in(at_least(1)))
      .add("picture_rows", o.picture_rows,
           help("rows of compare.png, the reference among them (0: all)").in(at_least(0)));
  return options;
}

}  // namespace epd
