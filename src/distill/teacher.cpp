#include "epd/distill/teacher.h"

#include <ATen/CPUGeneratorImpl.h>

#include <numeric>
#include <utility>

#include "epd/denoiser/device.h"
#include "epd/runtime/execute.h"
#include "epd/sampling/seed_noise.h"
#include "epd/schedule/sigma_map.h"
#include "epd/solver/make_plan.h"

namespace epd {
namespace {

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the input moves every bit of the output.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::vector<std::int64_t> permutation(std::int64_t size, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto order = at::randperm(size, generator, at::kLong);
  return {order.const_data_ptr<std::int64_t>(), order.const_data_ptr<std::int64_t>() + size};
}

/// The point of the teacher's grid at which each student step that is compared ends.
std::map<std::size_t, std::size_t> ends_of_steps(const PredictorSpec& spec, const TrainOptions& options) {
  const bool per_step = options.resolved_objective() == Objective::kPerStep;
  const std::size_t num_steps = spec.num_intervals(), stride = static_cast<std::size_t>(options.num_inserted) + 1;
  if (spec.plan()) return {{0, num_steps * stride}};  // its one step is the whole run
  std::map<std::size_t, std::size_t> ends;
  for (std::size_t n = per_step ? 0 : num_steps - 1; n < num_steps; ++n) ends[n] = (n + 1) * stride;
  return ends;
}

}  // namespace

std::uint64_t training_seed(std::uint64_t base_seed, std::uint64_t number) {
  return (mixed(mixed(base_seed) + number) >> 33) | kFirstTrainingSeed;
}

Teacher::Teacher(const Denoiser& denoiser, std::shared_ptr<const Conditions> conditions, Plan<double> plan,
                 std::map<std::size_t, std::size_t> ends, std::uint64_t seed, double t_0, at::Device device)
    : denoiser_(denoiser),
      conditions_(std::move(conditions)),
      plan_(std::move(plan)),
      ends_(std::move(ends)),
      seed_(seed),
      t_0_(t_0),
      device_(device) {}

TeacherBatch Teacher::batch(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> images(static_cast<std::size_t>(count));
  std::iota(images.begin(), images.end(), first);
  TeacherBatch batch = starts(images);
  batch.states = states(batch);
  return batch;
}

std::string Teacher::described(std::int64_t image) {
  const auto seed = training_seed(seed_, static_cast<std::uint64_t>(image));
  const auto prompt = conditions_->prompt(seed);
  return text(", seed ", seed, prompt.empty() ? "" : text(", '", shown(prompt), "'"));
}

TeacherBatch Teacher::starts(const std::vector<std::int64_t>& images) const {
  std::vector<std::uint64_t> seeds;
  std::vector<std::string> texts;
  for (const std::int64_t image : images) {
    seeds.push_back(training_seed(seed_, static_cast<std::uint64_t>(image)));
    texts.push_back(conditions_->prompt(seeds.back()));
  }
  // Samples on the CPU whatever the device, so that a run's data do not depend on it.
  auto [latents, labels, streams] = seed_noise(seeds, denoiser_.facts(), at::kCPU);
  return {to_device(start_state(latents, t_0_), device_),
          conditions_->of(seeds, labels.defined() ? to_device(labels, device_) : labels),
          {},
          std::move(texts),
          std::move(streams)};
}

StatesByStep Teacher::states(const TeacherBatch& starts) const {
  StatesByStep states;
  execute(plan_, denoiser_, starts.condition, starts.start, [&](std::size_t point, const at::Tensor& state) {
    for (const auto& [step, end] : ends_) {
      if (end == point) states[step] = state;
    }
  });
  return states;
}

CachedTrajectories::CachedTrajectories(Teacher teacher, std::int64_t num_images, std::uint64_t seed)
    : teacher_(std::move(teacher)), num_images_(num_images), seed_(seed) {}

std::int64_t CachedTrajectories::image_at(std::int64_t position) {
  if (position / num_images_ != pass_) {
    pass_ = position / num_images_;
    order_ = permutation(num_images_, mixed(seed_ ^ 0x5bf03635) + static_cast<std::uint64_t>(pass_));
  }
  return order_[static_cast<std::size_t>(position % num_images_)];
}

TeacherBatch CachedTrajectories::batch(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> images;
  for (std::int64_t i = first; i < first + count; ++i) images.push_back(image_at(i));
  TeacherBatch batch = teacher_.starts(images);
  compute(batch, images);
  std::map<std::size_t, std::vector<at::Tensor>> rows;
  for (const std::int64_t image : images) {
    for (const auto& [step, state] : trajectories_.at(image)) rows[step].push_back(state);
  }
  for (const auto& [step, states] : rows) batch.states[step] = at::stack(states);
  return batch;
}

/// Runs the teacher for those images whose trajectories are not known yet.
void CachedTrajectories::compute(const TeacherBatch& starts, const std::vector<std::int64_t>& images) {
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!trajectories_.contains(images[i])) rows.push_back(static_cast<std::int64_t>(i));
  }
  if (rows.empty()) return;
  const auto index = to_device(at::tensor(rows, at::kLong), starts.start.device());
  const auto chosen = [&](const at::Tensor& x) { return x.defined() ? x.index_select(0, index) : x; };
  const auto& c = starts.condition;
  const auto states = teacher_.states(
      {chosen(starts.start), {chosen(c.value), chosen(c.unconditional), chosen(c.labels), chosen(c.mean)}, {}, {}});
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto& trajectory = trajectories_[images[static_cast<std::size_t>(rows[i])]];
    for (const auto& [step, state] : states) trajectory[step] = state[static_cast<std::int64_t>(i)];
  }
}

std::unique_ptr<TrajectorySource> make_teacher(const TrainOptions& options, const PredictorSpec& start,
                                               const Denoiser& denoiser, std::shared_ptr<const Conditions> conditions,
                                               at::Device device) {
  const auto grid = options.validated().teacher_grid(start, make_sigma_map(denoiser.facts().noise).get());
  Teacher teacher(denoiser, std::move(conditions),
                  make_plan(options.teacher_options(clock_of(denoiser.facts().noise)), grid),
                  ends_of_steps(start, options), options.seed, grid[0], device);
  if (options.teacher_cache == 0) return std::make_unique<Teacher>(std::move(teacher));
  return std::make_unique<CachedTrajectories>(std::move(teacher), options.teacher_cache, options.seed);
}

}  // namespace epd
