#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "epd/denoiser/denoiser.h"
#include "epd/solver/plan.h"

namespace epd {

/// What a run holds on to for its adjoint.
enum class KeepForAdjoint {
  kNothing,      // sampling: a register is freed after its last use
  kStates,       // registers; each evaluation runs again in the adjoint (`recompute`)
  kActivations,  // registers and each evaluation's activations (`keep`)
};

/// Called with the index of a grid point and the state there as soon as it is known, in the order of the grid.
using GridObserver = std::function<void(std::size_t, const at::Tensor&)>;

/// The execution of a plan with a denoiser: the registers of one batch, filled instruction by instruction. `advance`
/// may be called again after the plan has grown, where registers are kept.
template <class S>
class Run {
 public:
  /// start [B, C, H, W]: the state x(t_0), register 0. `noise`: [B] generators, each image's own, for a plan that draws
  /// noise; they stay as they are, so that every run of a batch draws the same.
  Run(const Denoiser& denoiser, Condition condition, at::Tensor start, KeepForAdjoint keep,
      const std::vector<at::Generator>& noise = {});

  /// Executes the instructions that have not run yet.
  void advance(const Plan<S>& plan, const GridObserver& observe = nullptr);

  /// The tensor in a register; the state at grid point n is in plan.grid[n]. With kNothing only the end state is kept.
  const at::Tensor& operator[](Register r) const { return registers_.at(static_cast<std::size_t>(r)); }

  std::int64_t batch() const { return batch_; }
  /// The vector-Jacobian product of instruction i, an evaluation: of the one that was kept, or made anew from the
  /// states.
  InputGradients pull_back(const Plan<S>& plan, std::size_t instruction, const at::Tensor& gradient) const;

 private:
  void run(const Combine<S>& instruction);
  void run(const Evaluate<S>& instruction);
  void run(const Draw& instruction);
  at::Tensor inputs(const Evaluate<S>& instruction) const;
  void upload_noise_levels(const Plan<S>& plan);
  at::Tensor noise_levels(std::size_t instruction) const;
  void store(Register r, at::Tensor value);
  void show(const Plan<S>& plan, const GridObserver& observe);
  std::vector<std::size_t> last_uses(const Plan<S>& plan) const;

  const Denoiser& denoiser_;
  Condition condition_;
  KeepForAdjoint keep_;
  std::int64_t batch_;
  std::vector<std::int64_t> shape_;  // of a state
  at::TensorOptions of_states_;
  std::vector<at::Tensor> registers_;
  std::vector<at::Generator> noise_;
  bool has_own_noise_ = false;        // the generators are copies, made where the plan draws from them
  std::vector<Differentiated> kept_;  // by instruction
  std::vector<at::Tensor> levels_;    // by instruction: an evaluation's noise levels [K], on the states' device
  std::size_t done_ = 0, shown_ = 0;  // instructions, grid points
};

/// The state at the end of the plan, for sampling. Every other state is freed after its last use: whoever wants it
/// keeps what the observer sees. A moved `start` is freed likewise.
at::Tensor execute(const Plan<double>& plan, const Denoiser& denoiser, const Condition& condition, at::Tensor start,
                   const GridObserver& observe = nullptr, const std::vector<at::Generator>& noise = {});

}  // namespace epd
