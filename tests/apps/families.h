#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "epd/distill/run_train.h"
#include "epd/files/atomic_file.h"
#include "epd/files/npy.h"
#include "epd/sampling/run_sample.h"
#include "epd/schedule/sigma_map.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd::test {

/// What the families of published models have in common with tiny ones: their facts.
enum class Family { kPixels, kOneHot, kClassifier, kLatent, kText };

/// The table of LSUN-Bedroom's latent model: betas of linear square roots.
inline TableNoise latent_table() {
  TableNoise table;
  double product = 1;
  for (int m = 0; m < 1000; ++m) {
    const double root = std::sqrt(0.0015) + (std::sqrt(0.0195) - std::sqrt(0.0015)) * m / 999;
    table.alphas_cumprod.push_back(product *= 1 - root * root);
  }
  return table;
}

inline ModelFacts with_noise(ModelFacts facts, Noise noise) {
  facts.noise = std::move(noise);
  const auto map = make_sigma_map(facts.noise);
  facts.sigma_min = map->sigma(1e-3);
  facts.sigma_max = map->sigma(1);
  return facts;
}

inline ModelFacts latent_facts(const std::string& name) {
  auto facts = with_noise(testing::tiny_facts(name), latent_table());
  facts.channels = 4;
  facts.resolution = 4;
  facts.latent = LatentFacts{8, 3};
  return facts;
}

inline ModelFacts facts_of(Family family) {
  auto facts = testing::tiny_facts("tiny");
  switch (family) {
    case Family::kPixels:  // cifar10, ffhq, lsun_bedroom
      return facts;
    case Family::kOneHot:  // imagenet64
      facts.condition = ConditionKind::kLabel;
      facts.label_dim = 4;
      return facts;
    case Family::kClassifier:  // imagenet256
      facts = with_noise(facts, VpNoise{});
      facts.condition = ConditionKind::kLabel;
      facts.label_format = LabelFormat::kIndex;
      facts.label_dim = 4;
      facts.classifier = facts.clamp = true;
      return facts;
    case Family::kLatent:  // lsun_bedroom_ldm
      return latent_facts("tiny");
    case Family::kText:  // ms_coco
      facts = latent_facts("tiny");
      facts.condition = ConditionKind::kText;
      facts.text = TextFacts{77, 6};
      return facts;
  }
  throw Error("unknown family");
}

/// A vocabulary of single letters, in the form of CLIP's.
inline void write_vocabulary(const std::filesystem::path& folder) {
  std::string vocabulary;
  int number = 0;
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    for (const char* end : {"", "</w>"}) vocabulary += text('"', letter, end, "\": ", number++, ", ");
  }
  vocabulary += text("\"<|startoftext|>\": ", number, ", \"<|endoftext|>\": ", number + 1);
  write_file(folder / "merges.txt", "#version\n");
  write_file(folder / "vocab.json", "{" + vocabulary + "}");
}

/// A folder with a tiny model of a family, its vocabulary and a detector; and runs of both programs on it.
class TinyFamily {
 public:
  explicit TinyFamily(const ModelFacts& facts) : facts_(facts) {
    testing::TinyModelOptions model;
    model.facts = facts;
    testing::make_tiny_model(model_path(), model);
    testing::make_tiny_detector(folder_ / "features.ts");
    write_vocabulary(folder_.path());
  }
  explicit TinyFamily(Family family) : TinyFamily(facts_of(family)) {}

  const ModelFacts& facts() const { return facts_; }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }
  std::filesystem::path model_path() const { return folder_ / "denoiser.ts"; }

  /// Two iterations of three images.
  TrainRun training() const {
    TrainRun run;
    run.options.dataset_name = facts_.dataset_name;
    run.options.num_steps = 3;
    run.options.num_inserted = 1;
    run.options.batch = 3;
    run.options.total_kimg = 0.006;
    run.options.lr = 0.1;
    run.model_path = model_path().string();
    run.detector = (folder_ / "features.ts").string();
    run.outdir = folder_ / "exp";
    run.chunk = 4;
    return run;
  }
  std::filesystem::path train(const TrainRun& run) const { return run_train(run, *ProcessGroup::alone()); }

  SampleOptions sampling() const {
    SampleOptions options;
    options.model_path = model_path().string();
    options.method.solver = solver_kind("euler");
    options.method.num_steps = 3;
    options.seeds = {5, 0, 2};
    options.chunk = 4;
    options.outdir = folder_ / "samples";
    options.format = SampleFormat::kRaw;
    return options;
  }
  SampleSummary sample(const SampleOptions& options) const {
    return run_sample(options, *ProcessGroup::alone(), at::kCPU);
  }
  /// The images [N, 3, H, W] of a run in the raw format, in the order of its seeds.
  at::Tensor images(SampleOptions options, const std::string& name) const {
    options.outdir = folder_ / name;
    sample(options);
    const auto array = read_npy(options.outdir / "images.npy");
    std::vector<std::int64_t> shape(array.shape.begin(), array.shape.end());
    return at::tensor(array.as_doubles(), at::kDouble).reshape(shape);
  }

 private:
  TemporaryFolder folder_;
  ModelFacts facts_;
};

}  // namespace epd::test
