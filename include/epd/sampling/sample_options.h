#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "epd/core/options.h"
#include "epd/denoiser/torchscript.h"
#include "epd/documents/manifest.h"
#include "epd/metrics/scores.h"
#include "epd/sampling/common_options.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/method.h"
#include "epd/sampling/output_folder.h"
#include "epd/sampling/sampler.h"

namespace epd {

/// Where the seeds' random numbers are drawn: on the CPU, the same on every machine, or on the sampling device, as the
/// public code does.
enum class RandomDevice { kDevice, kCpu };
inline constexpr NameTable<RandomDevice, 2> kRandomDeviceNames{
    {{"device", RandomDevice::kDevice}, {"cpu", RandomDevice::kCpu}}};

constexpr const auto& names_of(RandomDevice) { return kRandomDeviceNames; }
constexpr const auto& names_of(SampleFormat) { return kSampleFormatNames; }

/// Scoring while sampling: the number that `fid calc` finds for the written images.
struct ScoreOptions {
  std::filesystem::path reference;  // statistics (.npz); unset: no scoring
  Metrics metrics;
  std::string detector;    // file or name; unset: the dataset's (assets/paths.h)
  bool no_images = false;  // score only, write nothing

  bool wanted() const { return !reference.empty(); }
};

/// Everything that a sampling run is told.
struct SampleOptions {
  std::string dataset_name;  // unset: the predictor's, or the model's own
  std::string model_path;    // unset: where the dataset's model is kept (assets/paths.h)
  MethodOptions method;
  ConditionOptions condition;

  SeedList seeds;
  std::int64_t batch = 64;          // images at a time, over all processes
  std::int64_t chunk = 0;           // images in one forward of the network; 0: 16 on the CPU, 64 on a GPU
  std::int64_t points_at_once = 0;  // parallel points in one forward; 0: all of them
  std::int64_t decode_batch = 0;    // latents decoded in one forward; 0: 1 on the CPU, 8 on a GPU
  Precision precision = Precision::kAuto;
  Engine engine = Engine::kAuto;
  bool offload = false;  // the text encoder, the network and the decoder on the device one at a time
  RandomDevice random_device = RandomDevice::kCpu;
  OnBad on_bad = OnBad::kStop;

  std::filesystem::path outdir;  // unset: samples/<dataset>/<solver>_nfe<NFE>_npoints_<K>
  SampleFormat format = SampleFormat::kPng;
  bool grid = false, subdirs = true, save_inters = false;
  bool resume = true, overwrite = false;
  int writer_threads = 2;
  ScoreOptions scoring;
  bool explain = false;  // print the plan, draw nothing
  bool json = false;     // results on stdout as JSON

  /// *this, or throws UsageError naming the option, its value and its bound.
  const SampleOptions& validated() const;
};

/// The options with everything that follows from other options, the predictor and the model's facts filled in.
struct ResolvedSample {
  std::filesystem::path model_path;
  ModelFacts facts;
  std::string dataset_name;
  ConditionOptions condition;
  Method method;
  std::filesystem::path outdir;
};

Options options_of(SampleOptions& options);

/// Reads the predictor and the model's facts, no weights. Throws UsageError or Error for whatever does not fit.
ResolvedSample resolve(const SampleOptions& options);

/// The record of a run, of options that decide the images and of what was found out: the device, the hashes, what
/// `auto` and unset options mean here.
Manifest sample_manifest(SampleOptions options, const ResolvedSample& resolved, const TorchScriptModel& model,
                         int num_processes);

/// The method alone, for `--explain`: it needs no model file where there is a predictor.
Method method_without_model(const SampleOptions& options);

}  // namespace epd
