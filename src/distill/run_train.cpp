#include "epd/distill/run_train.h"

#include <ATen/Context.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/out_of_memory.h"
#include "epd/core/progress.h"
#include "epd/denoiser/device.h"
#include "epd/denoiser/open_model.h"
#include "epd/distill/run_folder.h"
#include "epd/distributed/shard.h"
#include "epd/documents/model_facts_json.h"
#include "epd/documents/run_dir.h"
#include "epd/files/options_json.h"
#include "epd/files/outputs.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/frechet.h"
#include "epd/metrics/statistics.h"
#include "epd/sampling/common_options.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/sampler.h"
#include "epd/solver/make_plan.h"
#include "train_record.h"
#include "train_setup.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPreviewImages = 8;
const std::string kRunFolder = "run folder";

/// The Frechet distance of a student to a reference, on seeds of its own: what `sample --fid` finds with its predictor.
class Evaluator {
 public:
  /// Reads the reference and the detector before any work is done. Throws Error where they do not fit.
  Evaluator(const TrainRun& run, OpenedModel model, std::shared_ptr<const Conditions> conditions, ProcessGroup& group)
      : run_(run),
        model_(std::move(model)),
        conditions_(std::move(conditions)),
        group_(group),
        reference_(read_statistics(find_reference(run.evaluation.reference))) {
    const auto& o = run.evaluation;
    detector_ = open_scoring_detector(run.options.dataset_name, o.detector, run.resources.device);
    require_same_detector(*detector_, reference_);
    if (o.detector.empty() && group.is_root()) warn_of_unknown_detector(*detector_, reference_);
    mine_ = share_of(o.seeds, group.rank(), group.size());
  }

  /// Called by all processes, each of which draws its share. The student's training is not touched.
  double distance(const PredictorSpec& student) const {
    const auto times = student.time_steps(make_sigma_map(model_.facts().noise).get());
    const Sampler sampler(model_, conditions_, make_plan(student, times), times[0], {});
    const auto drawn = draw_statistics(sampler, mine_, run_.options.batch, detector_, group_, "student");
    return std::max(0.0, frechet_distance(drawn.statistics, reference_, run_.resources.device));
  }

 private:
  const TrainRun& run_;
  const OpenedModel model_;
  const std::shared_ptr<const Conditions> conditions_;
  ProcessGroup& group_;
  Statistics reference_;
  std::shared_ptr<const Detector> detector_;
  std::vector<std::uint64_t> mine_;
};

std::shared_ptr<const Conditions> make_run_conditions(const TrainRun& run, const OpenedModel& model,
                                                      bool begin_with_mean) {
  ConditionOptions options;
  if (!run.prompt.empty()) options.prompt = run.prompt;
  options.prompt_file = run.prompt_path;
  options.captions_repeat = true;
  options.cfg = run.options.guidance_type == GuidanceKind::kClassifierFree;
  options.chunk = run.chunk;
  auto conditions = make_conditions(model.model, find_model(run.options.dataset_name, run.model_path), options);
  if (const auto lost = conditions->cut_off({}); !lost.empty()) log::warning(lost);
  if (!begin_with_mean) return conditions;
  return with_mean(std::move(conditions), model);
}

/// The job that a launcher restarted goes on with the run that its earlier attempt began.
TrainRun continued(TrainRun run, ProcessGroup& group) {
  const auto folder = group.is_root() ? recall(kRunFolder).value_or("") : "";
  if (const auto begun = group.broadcast_bytes(folder, "an earlier attempt's run"); !begun.empty()) run.resume = begun;
  return run;
}

/// With --resume auto: the run to go on with, as the root finds it; nothing where a new one begins.
std::string resolved_resume(const TrainRun& run, const std::string& fingerprint, ProcessGroup& group) {
  if (run.resume != TrainRun::kAuto) return run.resume;
  const auto found = group.is_root() ? find_unfinished_run(run, fingerprint).string() : "";
  return group.broadcast_bytes(found, "the run to go on with");
}

/// The run's folder, without a name where the run is a new one: made by the root, known to all.
fs::path make_folder(const TrainRun& run, const PredictorSpec& student, ProcessGroup& group) {
  std::string folder;
  if (group.is_root()) {
    folder = planned_folder(run, student).string();
    if (run.resume.empty() && run.nosubdir) create_folder(run.outdir, "outdir");
    if (run.resume.empty() && !run.nosubdir) folder = new_run_dir(run.outdir).string();
  }
  return group.broadcast_bytes(folder, "run folder");
}

void train(Trainer& trainer, const TrainRun& run, const RunFolder& folder, Ticks::Evaluate evaluate,
           ProcessGroup& group) {
  constexpr double kSecondsBetweenStates = 60;
  Progress progress("training", trainer.num_iterations() * run.options.batch, "images", group.is_root());
  progress.skip(trainer.iteration() * run.options.batch);
  Ticks ticks(run, folder, std::move(evaluate), trainer);
  double last_state = folder.seconds();
  try {
    while (!trainer.done()) {
      group.check_interrupt();
      const auto report = trainer.iterate();
      synchronize(run.resources.device);  // before clocks are read
      progress.advance(run.options.batch);
      progress.note(text("loss ", report.loss.back()));
      ticks.after(report, trainer);
      if (folder.seconds() - last_state > kSecondsBetweenStates) {
        folder.write_state(trainer);
        last_state = folder.seconds();
      }
    }
  } catch (const OutOfMemory& e) {
    if (run.resources.adjoint == AdjointMemory::kRecompute) throw;
    throw OutOfMemory(text(e.what(), ", or --adjoint recompute"));
  } catch (const Interrupted&) {
    folder.write_state(trainer);
    log::info("stopped at iteration ", trainer.iteration(), "; continue with --resume ", folder.path().string());
    throw;
  }
}

/// Leaves behind what was learned, and a look at it.
void finish(Trainer& trainer, const TorchScriptModel& model, std::int64_t decode_batch, const RunFolder& folder) {
  folder.write_state(trainer);
  folder.write_predictor(trainer.best_predictor(), "predictor.json");
  if (!folder.writes()) return;
  const auto [ours, wanted] = trainer.preview(kPreviewImages);
  const auto decoded = [&](const at::Tensor& states) {
    std::vector<at::Tensor> images;
    for (const auto& slice : states.split(decode_batch)) images.push_back(model.decode(slice));
    return at::cat(images);
  };
  folder.write_preview(decoded(ours), decoded(wanted));
}

}  // namespace

TrainRun with_dataset_name(TrainRun run) {
  auto& name = run.options.dataset_name;
  if (name.empty()) name = read_model_facts(find_model(name, run.model_path)).dataset_name;
  return run;
}

fs::path planned_folder(const TrainRun& run, const PredictorSpec& student) {
  const bool automatic = run.resume == TrainRun::kAuto;
  if (!run.resume.empty() && !automatic) return find_run_dir(run.resume, run.outdir);
  std::error_code error;
  EPD_REQUIRE(!fs::exists(run.outdir, error) || fs::is_directory(run.outdir, error), "outdir: ", run.outdir.string(),
              " is a file, not a folder");
  if (!run.nosubdir) return run.outdir / ("NNNNN-" + run_name(run, student));
  const bool begun = fs::exists(run.outdir / "training_options.json");
  if (begun && automatic) return run.outdir;
  EPD_REQUIRE(!begun, "outdir: ", run.outdir.string(),
              " already holds a training run; continue it with --resume, or choose another folder");
  const auto data = find_data(run.outdir, /*below=*/false);
  EPD_REQUIRE(!data, "outdir: ", run.outdir.string(), " holds other data (", data->string(),
              "); choose another folder, or leave --nosubdir out");
  return run.outdir;
}

std::string run_name(const TrainRun& run, const PredictorSpec& student) {
  const char* const afs = student.afs == Afs::kNo ? "" : student.afs == Afs::kMean ? "-mean" : "-afs";
  return text(run.options.dataset_name, "-", student.num_steps, "-",
              student_nfe(student) * guidance_cost(student.guidance_type), "-", name_of(kStudentNames, student.kind()),
              "-", schedule_tag(student.schedule), afs, run.desc.empty() ? "" : "-", run.desc);
}

fs::path run_train(const TrainRun& given, ProcessGroup& group) {
  given.validated();
  EPD_REQUIRE_USAGE(!given.bench || group.size() == 1, "bench: each of ", group.size(), " processes would choose its ",
                    "own algorithms, and the gradients would depend on their number; use --bench with one process");
  TrainRun run = continued(given, group);
  run = with_defaults(std::move(run));
  make_gradients_reproducible(run.resources.device);
  if (!run.resources.device.is_cpu()) at::globalContext().setBenchmarkCuDNN(run.bench);
  const TrainSetup setup(run);
  const auto& [model, detector, start] = setup;
  const auto record_of_run = train_record(run, start, model, detector.get());
  auto shared_record = record_of_run;
  auto described = run;
  shared_record.update(job_options(options_of(described)));
  require_same_record(group, shared_record);
  run.resume = resolved_resume(run, record_of_run.dump(1), group);
  // What cannot go on is refused before the work of preparing it.
  if (!run.resume.empty()) require_same_run(run, find_run_dir(run.resume, run.outdir), record_of_run.dump(1));

  const auto conditions = make_run_conditions(run, model, start.afs == Afs::kMean);
  Ticks::Evaluate evaluate;
  if (run.evaluation.every > 0) {
    const auto evaluator = std::make_shared<const Evaluator>(run, model, conditions, group);
    evaluate = [evaluator](const PredictorSpec& student) { return evaluator->distance(student); };
  }
  Trainer trainer = setup.trainer(run, conditions, group);
  RunFolder folder(make_folder(run, start, group), group.is_root(), record_of_run.dump(1));
  if (run.resume.empty()) {
    folder.begin(trainer, run, run_name(run, start), group);
  } else {
    folder.resume(trainer, run);
  }
  if (group.is_root()) remember(kRunFolder, fs::absolute(folder.path()).string());
  log::info("training in ", folder.path().string());
  train(trainer, run, folder, std::move(evaluate), group);
  finish(trainer, *model.model, run.decode_batch, folder);
  return folder.path();
}

}  // namespace epd
