#include "epd/distill/teacher.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <utility>

#include "epd/runtime/execute.h"
#include "epd/sampling/latents.h"

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

}  // namespace

std::uint64_t training_seed(std::uint64_t base_seed, std::uint64_t number) {
  return (mixed(mixed(base_seed) + number) >> 33) | kFirstTrainingSeed;
}

Teacher::Teacher(const Denoiser& denoiser, ConditionSource condition, Plan<double> plan,
                 std::vector<std::size_t> grid_points, std::uint64_t seed, std::int64_t cache_size, double t_0,
                 at::Device device)
    : denoiser_(denoiser),
      condition_(std::move(condition)),
      plan_(std::move(plan)),
      grid_points_(std::move(grid_points)),
      seed_(seed),
      cache_size_(cache_size),
      t_0_(t_0),
      device_(device) {}

std::uint64_t Teacher::image_number(std::int64_t position) {
  if (cache_size_ == 0) return static_cast<std::uint64_t>(position);
  if (position / cache_size_ != pass_) {
    pass_ = position / cache_size_;
    order_ = permutation(cache_size_, mixed(seed_ ^ 0x5bf03635) + static_cast<std::uint64_t>(pass_));
  }
  return static_cast<std::uint64_t>(order_[static_cast<std::size_t>(position % cache_size_)]);
}

TeacherBatch Teacher::batch(std::int64_t iteration, std::int64_t batch_size, std::int64_t first, std::int64_t count) {
  std::vector<std::uint64_t> numbers, seeds;
  for (std::int64_t i = first; i < first + count; ++i) {
    numbers.push_back(image_number(iteration * batch_size + i));
    seeds.push_back(training_seed(seed_, numbers.back()));
  }
  // Drawn on the CPU whatever the device, so that a run's data do not depend on it.
  const Draws draws = draw(seeds, denoiser_.facts(), at::kCPU);
  TeacherBatch batch;
  batch.start = start_state(draws.latents, t_0_).to(device_);
  batch.condition = condition_(seeds, draws.labels.defined() ? draws.labels.to(device_) : draws.labels);
  compute(batch, numbers);
  for (std::size_t n = 0; n < grid_points_.size(); ++n) {
    std::vector<at::Tensor> states;
    for (const auto number : numbers) states.push_back(trajectories_.at(number)[n]);
    batch.states.push_back(at::stack(states));
  }
  if (cache_size_ == 0) trajectories_.clear();
  return batch;
}

/// Runs the teacher for those images of the batch whose trajectories are not known yet.
void Teacher::compute(const TeacherBatch& batch, const std::vector<std::uint64_t>& numbers) {
  std::vector<std::int64_t> missing;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (!trajectories_.contains(numbers[i])) missing.push_back(static_cast<std::int64_t>(i));
  }
  if (missing.empty()) return;
  const auto index = at::tensor(missing, at::kLong).to(device_);
  const auto chosen = [&](const at::Tensor& x) { return x.defined() ? x.index_select(0, index) : x; };
  const Condition condition{
      chosen(batch.condition.value), chosen(batch.condition.unconditional), chosen(batch.condition.labels), {}};
  execute(plan_, denoiser_, condition, chosen(batch.start), [&](std::size_t point, const at::Tensor& state) {
    const bool wanted = std::find(grid_points_.begin(), grid_points_.end(), point) != grid_points_.end();
    for (std::size_t i = 0; wanted && i < missing.size(); ++i) {
      auto& trajectory = trajectories_[numbers[static_cast<std::size_t>(missing[i])]];
      trajectory.push_back(state[static_cast<std::int64_t>(i)].clone());
    }
  });
}

}  // namespace epd
