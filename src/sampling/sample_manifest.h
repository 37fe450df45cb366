#pragma once

#include <c10/core/Device.h>

#include "epd/denoiser/open_model.h"
#include "epd/documents/manifest.h"
#include "epd/sampling/sample_options.h"

namespace epd {

/// The record of a run. What must be equal for two runs to share a folder, and what may differ, is decided here alone.
Manifest manifest_of(const SampleOptions& options, const ResolvedSample& resolved, const TorchScriptModel& model,
                     const ChunkOptions& chunks, int num_processes);

}  // namespace epd
