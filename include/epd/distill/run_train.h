#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "epd/denoiser/memory.h"
#include "epd/denoiser/torchscript.h"
#include "epd/distill/train_options.h"
#include "epd/distill/trainer.h"
#include "epd/distributed/process_group.h"

namespace epd {

/// How good the student is while it trains: its Frechet distance to a reference, in stats.jsonl.
struct EvaluationOptions {
  std::int64_t every = 0;            // ticks between two evaluations, and at the end; 0: none
  std::filesystem::path reference;   // statistics (.npz)
  std::vector<std::uint64_t> seeds;  // below those that are trained on
  std::string detector;              // file or name; unset: the dataset's
};

/// A training run as the user asks for it: what it learns, with which files, and what it leaves behind.
struct TrainRun {
  static constexpr const char* kAuto = "auto";

  TrainOptions options;
  std::string model_path, detector;
  std::string reward;               // a TorchScript file to be maximised instead of the loss at the last step
  std::string prompt, prompt_path;  // for models conditioned on text: one, or caption i for training seed i
  std::filesystem::path outdir = "exp";
  std::string desc;                 // appended to the folder's name
  bool nosubdir = false;            // write into outdir itself
  std::string resume;               // a run's folder or number: go on with it; kAuto: with one that was begun, if any
  double tick = 1;                  // thousands of images between two lines of stats.jsonl
  std::int64_t snap = 5, dump = 1;  // ticks between predictor snapshots, and between resumable states; 0: at the end
  EvaluationOptions evaluation;
  Precision precision = Precision::kAuto;
  TrainerResources resources;
  std::int64_t chunk = 0, points_at_once = 0;  // chunk 0: 16 on the CPU, what fits on a GPU
  std::int64_t decode_batch = 0;               // latents decoded for their features at a time; 0: 1 or 8
  bool bench = false;                          // let cuDNN time its algorithms
  std::string command_line;                    // JSON of all options, for training_options.json
  bool dry_run = false;                        // print the plans, train nothing

  /// *this, or throws UsageError naming the option, its value and its bound.
  const TrainRun& validated() const;
};

Options options_of(TrainRun& run);

/// What the run needs of the device's memory, in each of so many processes; its evaluation is not among it.
MemoryNeed train_memory(const TrainRun& run, at::Device device, int processes);

/// The run under the model's own dataset name where it has none.
TrainRun with_dataset_name(TrainRun run);

/// Distils a predictor and returns the run's folder, in which stand training_options.json, predictor.json,
/// predictor-<kimg>.json at snapshots, state.bin, stats.jsonl, log.txt and preview.png. Stopped at any moment, and
/// resumed, it ends with the predictor of an uninterrupted run.
/// Throws Error and UsageError; Interrupted when it was asked to stop, with its state written.
std::filesystem::path run_train(const TrainRun& run, ProcessGroup& group);

/// Where the run will be: with its number yet to come, NNNNN, where it makes a new folder below --outdir. Throws Error
/// for a folder that it cannot begin in, or go on in.
std::filesystem::path planned_folder(const TrainRun& run, const PredictorSpec& student);

/// The name behind the number of a run's folder: <dataset>-<num_steps>-<NFE>-<student>-<schedule>[-afs][-desc].
std::string run_name(const TrainRun& run, const PredictorSpec& student);

}  // namespace epd
