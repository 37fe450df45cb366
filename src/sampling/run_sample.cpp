#include "epd/sampling/run_sample.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/core/seeds.h"
#include "epd/denoiser/device.h"
#include "epd/distributed/shard.h"
#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"
#include "epd/metrics/tensor_images.h"
#include "epd/sampling/common_options.h"
#include "epd/sampling/output_folder.h"
#include "epd/sampling/sampler.h"
#include "epd/sampling/seed_noise.h"
#include "image_files.h"
#include "sample_scorer.h"

namespace epd {
namespace {

using Seeds = std::vector<std::uint64_t>;

std::string encoded(const Seeds& seeds) { return seeds.empty() ? "" : seeds_text(seeds); }
Seeds decoded(const std::string& text) { return text.empty() ? Seeds() : parse_seeds(text); }

PngText text_for(const Method& method) {
  PngText text{{"solver", method.solver}, {"nfe", std::to_string(method.nfe())}};
  if (method.predictor) text.emplace_back("predictor", method.predictor->sha256);
  if (!method.plan_sha256.empty()) text.emplace_back("plan", method.plan_sha256);
  return text;
}

/// One run: what it was told, what it opened, and its three parts - prepare, sample, pack.
class SampleRun {
 public:
  SampleRun(const SampleOptions& options, ProcessGroup& group, at::Device device)
      : options_(options),
        group_(group),
        device_(device),
        random_device_(options.random_device == RandomDevice::kCpu ? at::Device(at::kCPU) : device),
        resolved_(resolve(options)),
        layout_{resolved_.outdir, options.format, options.grid, options.subdirs, options.save_inters},
        model_options_(model_options(options, resolved_, device)),
        model_(open_model(model_options_)) {
    if (!device.is_cpu()) options_.chunk = chunk();  // it depends on the device's memory, so it is on record
    auto condition = resolved_.condition;
    condition.chunk = chunk();
    conditions_ = make_conditions(model_.model, resolved_.model_path, condition);
    if (options.scoring.wanted()) {
      scorer_ = std::make_unique<SampleScorer>(options.scoring, resolved_.dataset_name, device);
    }
  }

  /// Makes the folder ready and finds what is missing in it.
  void prepare() {
    if (options_.seeds.random) agree_on_random_seeds();
    manifest_ = sample_manifest(options_, resolved_, *model_.model, group_.size());
    auto shared_record = manifest_.settings;
    shared_record.update(job_options(options_of(options_)));
    require_same_record(group_, shared_record);
    Seeds missing = options_.seeds;
    if (!options_.scoring.no_images && group_.is_root()) missing = missing_in_folder();
    missing_ = decoded(group_.broadcast_bytes(encoded(missing), "seeds to draw"));
    const auto lost = group_.is_root() && !missing_.empty() ? conditions_->cut_off(missing_) : "";
    if (!lost.empty()) log::warning(lost);
  }

  /// Draws this process's images, a batch at a time; they are written in the background.
  void sample() {
    const auto& method = resolved_.method;
    const Sampler sampler(model_, conditions_, method.plan, method.times[0],
                          {random_device_, options_.decode_batch, options_.save_inters, OnBad::kSkip});
    std::unique_ptr<ImageFiles> files;
    if (!options_.scoring.no_images) {
      files = std::make_unique<ImageFiles>(layout_, conditions_, device_,
                                           ImageFiles::Options{options_.writer_threads, text_for(method)});
    }
    const Seeds own = share();
    const std::unordered_set<std::uint64_t> missing(missing_.begin(), missing_.end());
    Progress progress(title(), static_cast<std::int64_t>(own.size()), "images", group_.is_root());
    for (const Seeds& batch : batches_of(own, at_once())) {
      check_interrupt();
      sample_batch(batch, missing, sampler, files.get());
      progress.advance(static_cast<std::int64_t>(batch.size()));
      if (!bad_.empty() && options_.on_bad == OnBad::kStop) break;
    }
    if (files) files->finish();
    EPD_REQUIRE(bad_.empty() || options_.on_bad == OnBad::kSkip, bad_.front().message(), BadImage::kAdvice,
                "; --on_bad skip leaves such images out");
  }

  /// The scores, and the files of many images, once all processes have written theirs.
  SampleSummary pack() {
    SampleSummary summary;
    if (options_.on_bad == OnBad::kSkip) report_bad();
    summary.bad = static_cast<std::int64_t>(bad_.size());
    if (scorer_) {
      const auto source = options_.scoring.no_images ? "samples" : resolved_.outdir.string();
      auto scored = scorer_->finish(group_, source);
      if (!bad_.empty()) scored.record["missing"] = bad_.size();
      summary.scores = std::move(scored.scores);
      summary.score_record = std::move(scored.record);
    }
    if (options_.scoring.no_images) return summary;
    summary.outdir = resolved_.outdir;
    if (layout_.is_packed()) {
      group_.barrier("images written");
      if (folder_ && (!missing_.empty() || !folder_->is_packed_already())) {
        const Seeds seeds = good_seeds();
        pack_images(layout_, seeds, labels(seeds), options_.writer_threads);
      }
    }
    if (folder_ && !manifest_.run.value("bad", Json()).empty()) write_manifest(resolved_.outdir, manifest_);
    if (folder_ && scorer_) write_file(resolved_.outdir / "scores.json", json_text(summary.score_record) + "\n");
    return summary;
  }

  SampleSummary run() {
    prepare();
    const auto start = std::chrono::steady_clock::now();
    sample();
    auto summary = pack();
    synchronize(device_);
    summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    summary.images = static_cast<std::int64_t>(options_.seeds.size());
    summary.made = static_cast<std::int64_t>(missing_.size()) - summary.bad;
    summary.nfe = resolved_.method.nfe();
    summary.evaluations = resolved_.method.evaluations();
    return summary;
  }

 private:
  /// Draws no others where the folder's images were drawn from as many random seeds; else the root's draw counts.
  void agree_on_random_seeds() {
    Seeds seeds = options_.seeds;
    if (group_.is_root() && !options_.scoring.no_images) {
      const auto there = options_.overwrite ? std::nullopt : read_manifest(layout_.folder);
      if (there) {
        const auto count = there->run.value("random_seeds", std::size_t{0});
        EPD_REQUIRE(count == seeds.size(), layout_.folder.string(),
                    " has images of other seeds than random:", seeds.size(),
                    "; choose another --outdir, name the seeds, or replace the images with --overwrite");
        const auto& record = there->run.contains("seeds") ? there->run : there->settings;
        seeds = parse_seeds(record.at("seeds").get<std::string>());
      }
    }
    seeds = decoded(group_.broadcast_bytes(encoded(seeds), "random seeds"));
    static_cast<Seeds&>(options_.seeds) = std::move(seeds);
    if (group_.is_root()) log::info("seeds: ", seeds_text(options_.seeds));
  }

  /// Opens the root's folder.
  Seeds missing_in_folder() {
    const auto before = options_.overwrite ? std::nullopt : read_manifest(layout_.folder);
    folder_ =
        std::make_unique<OutputFolder>(layout_, manifest_, OutputFolder::Options{options_.resume, options_.overwrite});
    if (!folder_->is_packed_already()) return folder_->missing(options_.seeds);
    // Images inside a file of many are not read back for scoring: they are drawn again.
    if (scorer_) return options_.seeds;
    Seeds missing = folder_->missing(options_.seeds);
    if (before && before->run.contains("bad")) {
      manifest_.run["bad"] = before->run["bad"];
      for (const auto& image : before->run["bad"]) std::erase(missing, image.at("seed").get<std::uint64_t>());
    }
    return missing;
  }

  /// Gathers what all processes left out; on the root in the manifest and in one line.
  void report_bad() {
    auto own = Json::array();
    for (const auto& image : bad_) own.push_back({{"seed", image.seed}, {"where", image.where}});
    const auto all = group_.gather_bytes(own.dump(), "images that are not finite");
    if (!group_.is_root()) return;
    bad_.clear();
    for (const auto& part : all) {
      for (const auto& image : Json::parse(part)) {
        bad_.push_back({image.at("seed").get<std::uint64_t>(), image.at("where").get<std::string>()});
      }
    }
    if (bad_.empty()) return;
    std::ranges::sort(bad_, {}, &BadImage::seed);
    auto record = Json::array();
    std::string names;
    constexpr std::size_t kNamed = 8;
    for (std::size_t i = 0; i < bad_.size(); ++i) {
      record.push_back({{"seed", bad_[i].seed}, {"where", bad_[i].where}});
      if (i < kNamed) names += text(i > 0 ? ", seed " : "seed ", bad_[i].seed, " (", bad_[i].where, ")");
    }
    manifest_.run["bad"] = record;
    log::warning(bad_.size(), " of ", options_.seeds.size(), " images are not finite and are left out: ", names,
                 bad_.size() > kNamed ? ", ..." : "");
  }

  /// On the root, after report_bad.
  Seeds good_seeds() const {
    std::unordered_set<std::uint64_t> bad;
    for (const auto& image : bad_) bad.insert(image.seed);
    Seeds good;
    std::ranges::copy_if(options_.seeds, std::back_inserter(good), [&](auto seed) { return !bad.contains(seed); });
    EPD_REQUIRE(!good.empty(), "none of the ", options_.seeds.size(), " images is finite");
    return good;
  }

  /// The seeds of this process: its share of what is missing, or where images are scored, of all, in the order in which
  /// `fid calc` reads them.
  Seeds share() const {
    Seeds all = scorer_ ? options_.seeds : missing_;
    if (scorer_ && options_.format != SampleFormat::kNpz) {
      std::ranges::sort(all, {}, [this](std::uint64_t seed) { return layout_.image_name(seed); });
    }
    return share_of(all, group_.rank(), group_.size());
  }

  std::int64_t chunk() const { return model_options_.chunks.chunk; }

  /// A lane each for the chunks of a round.
  std::int64_t at_once() const { return images_at_once(options_.batch, group_.size(), chunk() * num_lanes(device_)); }

  std::string title() const {
    return group_.size() == 1 ? "sampling" : text("sampling, share of 1 of ", group_.size(), " processes");
  }

  void sample_batch(const Seeds& batch, const std::unordered_set<std::uint64_t>& missing, const Sampler& sampler,
                    ImageFiles* files) {
    Seeds absent;
    std::ranges::copy_if(batch, std::back_inserter(absent), [&](auto seed) { return missing.contains(seed); });
    Samples samples;
    if (!absent.empty()) samples = sampler.draw(absent);
    bad_.insert(bad_.end(), samples.bad.begin(), samples.bad.end());
    if (layout_.is_packed() && samples.labels.defined()) {
      drawn_labels_.emplace_back(samples.seeds, samples.labels.cpu());
    }
    if (files && !samples.seeds.empty()) files->add(samples);
    if (scorer_ && samples.bad.size() < batch.size()) scorer_->add(pixels_of(batch, samples, missing));
  }

  /// The pixels of a batch in its order: of those just drawn, and of those that are on the disk.
  at::Tensor pixels_of(const Seeds& batch, const Samples& samples,
                       const std::unordered_set<std::uint64_t>& missing) const {
    const auto& drawn = samples.seeds;
    const auto fresh = drawn.empty() ? at::Tensor() : to_pixels(samples.images);
    if (drawn.size() == batch.size()) return fresh;
    std::vector<at::Tensor> rows;
    std::int64_t next = 0;
    for (const std::uint64_t seed : batch) {
      const bool is_fresh = next < static_cast<std::int64_t>(drawn.size()) && drawn[next] == seed;
      if (!is_fresh && missing.contains(seed)) continue;  // not finite
      rows.push_back(is_fresh ? fresh[next++] : to_pixels(std::array{read_image(layout_, seed)})[0].to(device_));
    }
    return at::stack(rows);
  }

  /// The labels of images; empty for models without.
  std::vector<std::int64_t> labels(const Seeds& seeds) const {
    if (resolved_.facts.label_dim == 0) return {};
    std::unordered_map<std::uint64_t, std::int64_t> label_of;
    for (const auto& [drawn, values] : drawn_labels_) {
      for (std::size_t i = 0; i < drawn.size(); ++i) label_of[drawn[i]] = values.const_data_ptr<std::int64_t>()[i];
    }
    Seeds others;  // drawn by other processes, or before the run was interrupted
    std::ranges::copy_if(seeds, std::back_inserter(others), [&](auto seed) { return !label_of.contains(seed); });
    const auto fixed = options_.condition.label;
    const auto values =
        fixed ? std::vector<std::int64_t>(others.size(), *fixed) : seed_labels(others, resolved_.facts, random_device_);
    for (std::size_t i = 0; i < others.size(); ++i) label_of[others[i]] = values[i];
    std::vector<std::int64_t> result;
    for (const auto seed : seeds) result.push_back(label_of.at(seed));
    return result;
  }

  SampleOptions options_;
  ProcessGroup& group_;
  at::Device device_, random_device_;
  ResolvedSample resolved_;
  OutputLayout layout_;
  ModelOptions model_options_;
  OpenedModel model_;
  std::shared_ptr<const Conditions> conditions_;
  std::unique_ptr<SampleScorer> scorer_;  // where images are scored
  std::unique_ptr<OutputFolder> folder_;  // the root's
  Manifest manifest_;
  Seeds missing_;
  std::vector<std::pair<Seeds, at::Tensor>> drawn_labels_;  // of images to pack
  std::vector<BadImage> bad_;                               // of this process; in the end, on the root, of all
};

}  // namespace

SampleSummary run_sample(const SampleOptions& options, ProcessGroup& group, at::Device device) {
  return SampleRun(options, group, device).run();
}

}  // namespace epd
