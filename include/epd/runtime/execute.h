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

/// A plan meets a denoiser: the registers of one batch, filled instruction by instruction. `advance` may be called
/// again after the plan has grown.
template <class S>
class Run {
 public:
  /// start [B, C, H, W]: the state x(t_0), register 0.
  Run(const Denoiser& denoiser, Condition condition, at::Tensor start, KeepForAdjoint keep);

  /// Executes the instructions that have not run yet.
  void advance(const Plan<S>& plan);

  /// The tensor in a register; the state at grid point n is in plan.grid[n].
  const at::Tensor& operator[](Register r) const { return registers_.at(static_cast<std::size_t>(r)); }

  const Denoiser& denoiser() const { return denoiser_; }
  const Condition& condition() const { return condition_; }
  std::int64_t batch() const { return batch_; }
  /// The evaluation of instruction i with its pullback: kept, or made anew from the states.
  Differentiated differentiate(const Plan<S>& plan, std::size_t instruction) const;

 private:
  void combine(const Combine<S>& instruction);
  void evaluate(const Evaluate<S>& instruction, std::size_t index);
  at::Tensor inputs(const Evaluate<S>& instruction) const;
  at::Tensor noise_levels(const Evaluate<S>& instruction) const;
  void store(Register r, at::Tensor value);
  void free_unused(const Plan<S>& plan, std::size_t instruction);

  const Denoiser& denoiser_;
  Condition condition_;
  KeepForAdjoint keep_;
  std::int64_t batch_;
  std::vector<at::Tensor> registers_;
  std::vector<Differentiated> kept_;   // by instruction
  std::vector<std::size_t> last_use_;  // by register, when registers are freed
  std::size_t done_ = 0;
};

/// Called with the index of a grid point and the state there.
using GridObserver = std::function<void(std::size_t, const at::Tensor&)>;

/// The state at the end of the plan, for sampling.
at::Tensor execute(const Plan<double>& plan, const Denoiser& denoiser, const Condition& condition,
                   const at::Tensor& start, const GridObserver& observe = nullptr);

}  // namespace epd
