#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "epd/denoiser/memory.h"
#include "epd/distributed/process_group.h"
#include "epd/files/json.h"
#include "epd/sampling/sample_options.h"

namespace epd {

/// What a run did; the numbers are those of all processes.
struct SampleSummary {
  std::filesystem::path outdir;  // empty where nothing was written
  std::int64_t images = 0;       // of the seeds asked for
  std::int64_t made = 0;         // by this run; the others were there, or are bad
  std::int64_t bad = 0;          // not finite, and left out
  double seconds = 0;            // drawing and writing, without loading the model
  int nfe = 0, evaluations = 0;
  std::optional<Scores> scores;  // on the root, where asked for
  Json score_record;             // the scores, and what they depend on
};

/// Draws an image for every seed and writes it: the work of `sample`. The processes share the seeds that are missing;
/// each draws, quantises, encodes and writes its own, overlapping, without waiting for the others. The same seeds give
/// the same files for any number of processes, any batch, and however often the run was stopped.
/// Throws Error and UsageError; Interrupted when it was asked to stop, with whole files only in the folder.
SampleSummary run_sample(const SampleOptions& options, ProcessGroup& group, at::Device device);

/// The model as the run opens it on the device, with its chunk found where none was asked for.
ModelOptions model_options(const SampleOptions& options, const ResolvedSample& resolved, at::Device device);

/// What the run needs of the device's memory, in each of so many processes; a score's network is not among it.
MemoryNeed sample_memory(const SampleOptions& options, const ResolvedSample& resolved, at::Device device,
                         int processes);

}  // namespace epd
