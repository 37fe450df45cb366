#include "train_record.h"

#include <torch/version.h>

#include <algorithm>

#include "epd/core/run_main.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/chunked.h"
#include "epd/denoiser/device.h"
#include "epd/distill/teacher.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/options_json.h"
#include "epd/sampling/common_options.h"

namespace epd {

Options options_of(TrainRun& run) {
  using namespace option_help;
  Options options("Model");
  options
      .add("dataset_name", run.options.dataset_name, help("model to distil for (demo, cifar10, ...)").decides_result())
      .add("model_path", run.model_path, help(kModelPath).decides_content().reads().as("FILE"))
      .add(options_of(run.options));
  options.group("Condition and features")
      .add("detector", run.detector,
           help("feature network of the loss (default: inception; for demo, its own network)")
               .decides_content()
               .reads()
               .as("NAME|FILE"))
      .add("reward", run.reward,
           help("with --search: TorchScript reward(images, texts) to maximise instead of the loss (exp/README.md)")
               .decides_content()
               .reads()
               .as("FILE"))
      .add("prompt", run.prompt, help("prompt for all training images (text models)").decides_result())
      .add("prompt_path,prompt_file", run.prompt_path,
           help("training captions: one per line, or a CSV file with a column named text")
               .decides_content()
               .reads()
               .as("FILE"));
  options.group("Output")
      .add("outdir", run.outdir, help("parent of the run folder").names_path().as("DIR"))
      .add("desc", run.desc, help("text appended to the name of the run folder"))
      .add("nosubdir", run.nosubdir, help("write into --outdir itself, without a run folder"))
      .add("resume", run.resume,
           help("continue this run with its own options; auto: the unfinished run of these options in --outdir, else a "
                "new "
                "one")
               .names_path()
               .as("DIR|NUMBER|auto"))
      .add("tick", run.tick, help("kimg per tick: one line of stats.jsonl").decides_job().in(positive()))
      .add("snap", run.snap, help("ticks between snapshots of the predictor (0: none)").in(at_least(0)))
      .add("dump", run.dump,
           help("ticks between checkpoints, written at least every minute (0: every minute only)").in(at_least(0)))
      .add("dry_run,n", run.dry_run, help("print the options and plans without training"));
  auto& evaluation = run.evaluation;
  options.group("Evaluation")
      .add("eval_every", evaluation.every,
           help("ticks between FID evaluations against --fid, written to stats.jsonl (0: none)")
               .decides_job()
               .in(at_least(0)))
      .add("fid", evaluation.reference,
           help("reference statistics (.npz) or dataset name for --eval_every").reads().as("FILE|NAME"))
      .add("eval_seeds", evaluation.seeds, help("seeds of the images for --fid; never trained on").decides_job())
      .add("eval_detector", evaluation.detector,
           help("feature network for --fid (default: inception; for demo, its own network)").reads().as("NAME|FILE"));
  options.group("Resources")
      .add("batch_gpu", run.resources.batch_gpu,
           help("images per gradient pass of a process (0: one chunk, on the CPU one per thread)").in(at_least(0)))
      .add("adjoint", run.resources.adjoint,
           help("gradients: recompute each evaluation, or keep its activations (faster, more memory)"))
      .add("points_at_once", run.points_at_once, help(kPointsAtOnce).decides_result().in(at_least(0)))
      .add("chunk", run.chunk, help(kChunk).decides_result().in(at_least(0)))
      .add("decode_batch", run.decode_batch,
           help("latents decoded for their features per pass (0: 1 on the CPU, 8 on a GPU)")
               .decides_result()
               .in(at_least(0)))
      .add("precision", run.precision, help(kPrecision).decides_result())
      .add("bench", run.bench, help("cuDNN benchmark mode").decides_result());
  return options;
}

const TrainRun& TrainRun::validated() const {
  TrainRun copy = *this;
  options_of(copy).check();
  options.validated();
  EPD_REQUIRE_USAGE((evaluation.every > 0) == !evaluation.reference.empty(),
                    "eval_every and fid must be given together");
  EPD_REQUIRE_USAGE(reward.empty() || options.search, "reward: only with --search");
  EPD_REQUIRE_USAGE(options.loss_metric != LossMetric::kL2 || detector.empty(),
                    "detector: --loss_metric l2 does not use a detector");
  EPD_REQUIRE_USAGE(options.loss_metric != LossMetric::kLpips || !detector.empty(),
                    "loss_metric lpips: give a TorchScript LPIPS network with --detector");
  EPD_REQUIRE_USAGE(evaluation.every == 0 || evaluation.seeds.size() >= 2,
                    "eval_seeds: a Frechet distance needs at least 2 images");
  EPD_REQUIRE_USAGE(evaluation.every == 0 || *std::ranges::max_element(evaluation.seeds) < kFirstTrainingSeed,
                    "eval_seeds: seeds from ", kFirstTrainingSeed, " on are used in training");
  EPD_REQUIRE_USAGE(desc.find('/') == std::string::npos, "desc: '", desc, "' must not contain '/'");
  return *this;
}

Json train_record(TrainRun run, const PredictorSpec& start, const OpenedModel& model, const Detector* detector) {
  const auto device = run.resources.device;
  auto& o = run.options;
  o.init = o.resolved_init();
  o.coslr = o.is_cosine();
  o.val_images = o.validation_images();
  o.lr = o.lr.value_or(o.kDefaultRate);
  o.guidance_rate = o.guidance_rate.value_or(1);
  run.chunk = chunk_or_default(run.chunk, device);
  run.precision = model.model->precision();
  const Json found{{"model_sha256", model.model->sha256()},
                   {"detector_sha256", detector != nullptr ? Json(detector->sha256()) : nullptr},
                   {"start_sha256", sha256_hex(predictor_text(start))},
                   {"device", kind_of(device)},
                   {"torch_version", TORCH_VERSION},
                   {"software_version", version()}};
  return decisive_options(options_of(run), found);
}

}  // namespace epd
