#include "epd/distill/validation.h"

#include <utility>

#include "epd/distributed/shard.h"
#include "epd/runtime/execute.h"

namespace epd {

Validation::Validation(std::unique_ptr<TrajectorySource> source, std::int64_t num_images, std::int64_t at_once,
                       const Denoiser& denoiser, ProcessGroup& group)
    : source_(std::move(source)), num_images_(num_images), at_once_(at_once), denoiser_(denoiser), group_(group) {}

double Validation::loss_of(const Plan<double>& plan, const Loss& loss) {
  auto losses = at::zeros({num_images_}, at::kDouble);
  const Shard mine = shard_of(num_images_, group_.rank(), group_.size());
  for (const Shard& pass : passes_of(mine, at_once_)) {
    const auto batch = source_->batch(0, num_images_, pass.begin, pass.size());
    const auto end = execute(plan, denoiser_, batch.condition, batch.start);
    losses.narrow(0, pass.begin, pass.size()).copy_(loss.compare(end, batch.states.back()).per_image);
  }
  group_.all_reduce_sum(losses, "validation");  // each image has one process that drew it: the sum is exact
  double sum = 0;
  for (std::int64_t i = 0; i < num_images_; ++i) sum += losses.const_data_ptr<double>()[i];
  return sum / static_cast<double>(num_images_);
}

}  // namespace epd
