#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "epd/core/names.h"
#include "epd/core/options.h"
#include "epd/denoiser/open_model.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/statistics.h"
#include "epd/runtime/execute.h"
#include "epd/sampling/conditions.h"
#include "epd/solver/plan.h"

namespace epd {

struct SamplerOptions {
  at::Device random_device = at::kCPU;  // where the seeds' generators live
  std::int64_t decode_batch = 0;        // latents decoded in one forward, a smaller last slice padded; 0: the default
  bool keep_states = false;             // hand out the states at all grid points
  OnBad on_bad = OnBad::kStop;
};

/// An image with a value that is not finite.
struct BadImage {
  std::uint64_t seed;
  std::string where;  // "from step 2 of 3 on", "after the decoder"

  static const char* const kAdvice;
  std::string message() const;  // "the image of seed 7 is not finite from step 2 of 3 on"
};

/// Images as the network made them, on its device.
struct Samples {
  std::vector<std::uint64_t> seeds;
  at::Tensor images;               // [B, C, H, W] float32 in about [-1, 1], decoded
  at::Tensor end;                  // [B, C, H, W], the last state, before decoding
  at::Tensor labels;               // [B] int64, what was drawn or asked for; undefined for models without labels
  std::vector<at::Tensor> states;  // with keep_states: N of [B, C, H, W], before decoding
  std::vector<BadImage> bad;       // seeds that were asked for and are not among the B
};

/// Seeds in, images out: latents, the plan, the decoder. Each image depends on its own seed alone.
class Sampler {
 public:
  Sampler(OpenedModel model, std::shared_ptr<const Conditions> conditions, Plan<double> plan, double t_0,
          SamplerOptions options);

  /// Throws Error for an image that is not finite, or with on_bad skip leaves it out and names it in `bad`.
  Samples draw(const std::vector<std::uint64_t>& seeds) const;

  at::Device device() const { return model_.model->device(); }

 private:
  Samples drawn(const std::vector<std::uint64_t>& seeds, const GridObserver& observe) const;
  void leave_out_bad(Samples& samples, const at::Tensor& finite) const;
  at::Tensor decoded(const at::Tensor& states) const;

  OpenedModel model_;
  std::shared_ptr<const Conditions> conditions_;
  Plan<double> plan_;
  double t_0_;
  SamplerOptions options_;
  Lanes lanes_;
};

/// This process's part of a batch of all of them in whole rounds of so many images: one that is not full, which is
/// padded, would cost as much.
std::int64_t images_at_once(std::int64_t batch, int processes, std::int64_t round);

/// Parallel points of the widest evaluation.
std::int64_t most_points(const Plan<double>& plan);

struct DrawnStatistics {
  Statistics statistics;  // of all processes' images
  double seconds = 0;     // that drawing took this process
};

/// Draws the images of `seeds`, this process's, `at_once` at a time, hands each batch to `seen`, and sums the
/// detector's features up under the name `source`. Called by all processes.
DrawnStatistics draw_statistics(const Sampler& sampler, const std::vector<std::uint64_t>& seeds, std::int64_t at_once,
                                const std::shared_ptr<const Detector>& detector, ProcessGroup& group,
                                const std::string& source, const std::function<void(const Samples&)>& seen = {});

}  // namespace epd
