#include "epd/runtime/execute.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <utility>

#include "epd/core/error.h"
#include "epd/runtime/linear.h"

namespace epd {
namespace {

template <class S>
std::vector<std::size_t> last_uses(const Plan<S>& plan) {
  std::vector<std::size_t> last(static_cast<std::size_t>(plan.num_registers), 0);
  for (std::size_t i = 0; i < plan.instructions.size(); ++i) {
    if (const auto* combine = std::get_if<Combine<S>>(&plan.instructions[i])) {
      for (const auto& term : combine->sum.terms()) last[term.source] = i;
    } else {
      for (const Register state : std::get<Evaluate<S>>(plan.instructions[i]).states) last[state] = i;
    }
  }
  for (const Register state : plan.grid) last[state] = plan.instructions.size();  // read by the caller
  return last;
}

}  // namespace

template <class S>
Run<S>::Run(const Denoiser& denoiser, Condition condition, at::Tensor start, KeepForAdjoint keep)
    : denoiser_(denoiser), condition_(std::move(condition)), keep_(keep), batch_(start.size(0)) {
  registers_.push_back(std::move(start));
}

template <class S>
void Run<S>::advance(const Plan<S>& plan) {
  at::NoGradGuard no_grad;
  registers_.resize(static_cast<std::size_t>(plan.num_registers));
  kept_.resize(plan.instructions.size());
  if (plan.mean >= 0 && done_ == 0) {
    EPD_REQUIRE(condition_.mean.defined(), "a plan that begins with the mean of the data was given none");
    store(plan.mean, condition_.mean.to(registers_[0].options()));
  }
  if (keep_ == KeepForAdjoint::kNothing) last_use_ = last_uses(plan);
  for (; done_ < plan.instructions.size(); ++done_) {
    if (const auto* instruction = std::get_if<Combine<S>>(&plan.instructions[done_])) {
      combine(*instruction);
    } else {
      evaluate(std::get<Evaluate<S>>(plan.instructions[done_]), done_);
    }
    if (keep_ == KeepForAdjoint::kNothing) free_unused(plan, done_);
  }
}

template <class S>
void Run<S>::combine(const Combine<S>& instruction) {
  std::vector<WeightedTensor> terms;
  for (const auto& term : instruction.sum.terms()) terms.push_back({value_of(term.coefficient), (*this)[term.source]});
  store(instruction.target, weighted_sum(terms));
}

template <class S>
void Run<S>::evaluate(const Evaluate<S>& instruction, std::size_t index) {
  const auto num_points = static_cast<std::int64_t>(instruction.states.size());
  at::Tensor denoised;
  if (keep_ == KeepForAdjoint::kActivations) {
    kept_[index] = denoiser_.differentiate(inputs(instruction), noise_levels(instruction), num_points, condition_);
    denoised = kept_[index].denoised;
  } else {
    denoised = denoiser_.forward(inputs(instruction), noise_levels(instruction), num_points, condition_);
  }
  const auto points = denoised.split(batch_);
  for (std::size_t k = 0; k < points.size(); ++k) store(instruction.denoised[k], points[k]);
}

template <class S>
at::Tensor Run<S>::inputs(const Evaluate<S>& instruction) const {
  if (instruction.states.size() == 1) return (*this)[instruction.states[0]];
  std::vector<at::Tensor> points;
  for (const Register state : instruction.states) points.push_back((*this)[state]);
  return at::cat(points);
}

template <class S>
at::Tensor Run<S>::noise_levels(const Evaluate<S>& instruction) const {
  std::vector<double> sigmas;
  for (const S& sigma : instruction.sigmas) sigmas.push_back(value_of(sigma));
  return at::tensor(sigmas, at::kDouble).repeat_interleave(batch_).to(registers_[0].options());
}

template <class S>
void Run<S>::store(Register r, at::Tensor value) {
  registers_[static_cast<std::size_t>(r)] = std::move(value);
}

template <class S>
void Run<S>::free_unused(const Plan<S>& plan, std::size_t instruction) {
  const auto release = [&](Register r) {
    if (last_use_[r] == instruction) registers_[static_cast<std::size_t>(r)].reset();
  };
  if (const auto* combine = std::get_if<Combine<S>>(&plan.instructions[instruction])) {
    for (const auto& term : combine->sum.terms()) release(term.source);
  } else {
    for (const Register state : std::get<Evaluate<S>>(plan.instructions[instruction]).states) release(state);
  }
}

template <class S>
Differentiated Run<S>::differentiate(const Plan<S>& plan, std::size_t instruction) const {
  if (keep_ == KeepForAdjoint::kActivations) return kept_.at(instruction);
  EPD_REQUIRE(keep_ == KeepForAdjoint::kStates, "a run that kept nothing has no adjoint");
  const auto& evaluate = std::get<Evaluate<S>>(plan.instructions[instruction]);
  return denoiser_.differentiate(inputs(evaluate), noise_levels(evaluate),
                                 static_cast<std::int64_t>(evaluate.states.size()), condition_);
}

template class Run<double>;
template class Run<Dual>;

at::Tensor execute(const Plan<double>& plan, const Denoiser& denoiser, const Condition& condition,
                   const at::Tensor& start, const GridObserver& observe) {
  Run<double> run(denoiser, condition, start, KeepForAdjoint::kNothing);
  run.advance(plan);
  for (std::size_t n = 0; observe && n < plan.grid.size(); ++n) observe(n, run[plan.grid[n]]);
  return run[plan.grid.back()];
}

}  // namespace epd
