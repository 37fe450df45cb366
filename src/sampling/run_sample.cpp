#include "epd/sampling/run_sample.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "epd/core/interrupt.h"
#include "epd/core/progress.h"
#include "epd/core/seeds.h"
#include "epd/distributed/shard.h"
#include "epd/sampling/latents.h"
#include "epd/sampling/output_folder.h"
#include "epd/sampling/sampler.h"
#include "image_files.h"
#include "pack.h"
#include "sample_manifest.h"

namespace epd {
namespace {

using Seeds = std::vector<std::uint64_t>;

ChunkOptions chunks_for(const SampleOptions& o, at::Device device) {
  return {o.chunk > 0 ? o.chunk : device.is_cpu() ? 16 : 64, o.points_at_once};
}

/// This process's part of a batch, as whole chunks: a chunk that is not full costs as much as one that is.
std::int64_t images_at_once(const SampleOptions& o, const ChunkOptions& chunks, int num_processes) {
  const std::int64_t share = (o.batch + num_processes - 1) / num_processes;
  return (share + chunks.chunk - 1) / chunks.chunk * chunks.chunk;
}

OutputLayout layout_of(const SampleOptions& o, const ResolvedSample& resolved) {
  return {resolved.outdir, o.format, o.grid, o.subdirs, o.save_inters};
}

std::string encoded(const Seeds& seeds) { return seeds.empty() ? "" : seeds_text(seeds); }
Seeds decoded(const std::string& text) { return text.empty() ? Seeds() : parse_seeds(text); }

Seeds shard(const Seeds& seeds, const ProcessGroup& group) {
  const auto own = shard_of(static_cast<std::int64_t>(seeds.size()), group.rank(), group.size());
  return {seeds.begin() + own.begin, seeds.begin() + own.end};
}

std::string progress_title(const ProcessGroup& group) {
  return group.size() == 1 ? "sampling" : text("sampling, share of 1 of ", group.size(), " processes");
}

PngText text_for(const Method& method) {
  PngText text{{"solver", method.solver}, {"nfe", std::to_string(method.nfe())}};
  if (method.predictor) text.emplace_back("predictor", method.predictor->sha256);
  return text;
}

/// Draws this process's images, a batch at a time, and writes them in the background.
void draw_images(const Sampler& sampler, const Seeds& seeds, std::int64_t at_once, ImageFiles& files,
                 Progress& progress) {
  for (std::size_t first = 0; first < seeds.size(); first += static_cast<std::size_t>(at_once)) {
    check_interrupt();
    const auto last = std::min(seeds.size(), first + static_cast<std::size_t>(at_once));
    const Seeds batch(seeds.begin() + static_cast<std::ptrdiff_t>(first),
                      seeds.begin() + static_cast<std::ptrdiff_t>(last));
    files.add(batch, sampler.draw(batch));
    progress.advance(static_cast<std::int64_t>(batch.size()));
  }
  files.finish();
}

/// The labels of all images, as their seeds draw them.
std::vector<std::int64_t> labels_of(const Seeds& seeds, const SampleOptions& o, const ModelFacts& facts,
                                    at::Device random_device) {
  std::vector<std::int64_t> labels;
  if (facts.label_dim == 0) return labels;
  if (o.condition.label) return std::vector<std::int64_t>(seeds.size(), *o.condition.label);
  for (const std::uint64_t seed : seeds)
    labels.push_back(draw({seed}, facts, random_device).labels.item<std::int64_t>());
  return labels;
}

}  // namespace

SampleSummary run_sample(const SampleOptions& options, ProcessGroup& group, at::Device device) {
  const auto resolved = resolve(options);
  const auto& method = resolved.method;
  const auto chunks = chunks_for(options, device);
  const auto model = open_model({resolved.model_path, device, options.precision, method.guidance, chunks});
  auto condition_options = options.condition;
  condition_options.chunk = chunks.chunk;
  const std::shared_ptr<const Conditions> conditions =
      make_conditions(model.model, resolved.model_path, condition_options);
  const auto layout = layout_of(options, resolved);
  const auto manifest = manifest_of(options, resolved, *model.model, chunks, group.size());
  group.require_same("the options of the run", manifest_text(manifest));

  std::optional<OutputFolder> folder;  // the root's
  if (group.is_root()) folder.emplace(layout, manifest, OutputFolder::Options{options.resume, options.overwrite});
  const Seeds missing =
      decoded(group.broadcast_bytes(folder ? encoded(folder->missing(options.seeds)) : "", "seeds to draw"));

  const auto start = std::chrono::steady_clock::now();
  const auto random_device = options.random_device == RandomDevice::kCpu ? at::Device(at::kCPU) : device;
  const Sampler sampler(model, conditions, method.plan, method.times[0],
                        {random_device, options.decode_batch, options.save_inters});
  const Seeds own = shard(missing, group);
  Progress progress(progress_title(group), static_cast<std::int64_t>(own.size()), "images", group.is_root());
  ImageFiles files(layout, conditions, device, {options.writer_threads, text_for(method)});
  draw_images(sampler, own, images_at_once(options, chunks, group.size()), files, progress);
  progress.finish();

  if (layout.is_packed()) {
    group.barrier("images written");
    if (folder && !folder->is_packed_already()) {
      pack_images(layout, options.seeds, labels_of(options.seeds, options, resolved.facts, random_device));
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {resolved.outdir,
          static_cast<std::int64_t>(options.seeds.size()),
          static_cast<std::int64_t>(missing.size()),
          seconds.count(),
          method.nfe(),
          method.evaluations()};
}

}  // namespace epd
