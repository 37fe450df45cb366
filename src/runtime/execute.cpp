#include "epd/runtime/execute.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <utility>

#include "epd/core/error.h"
#include "epd/denoiser/device.h"
#include "epd/runtime/linear.h"

namespace epd {
namespace {

/// The registers that an instruction reads and writes.
template <class S>
std::vector<Register> registers_of(const Instruction<S>& instruction) {
  if (const auto* combine = std::get_if<Combine<S>>(&instruction)) {
    std::vector<Register> result{combine->target};
    for (const auto& term : combine->sum.terms()) result.push_back(term.source);
    return result;
  }
  if (const auto* noise = std::get_if<Draw>(&instruction)) return {noise->target};
  const auto& evaluate = std::get<Evaluate<S>>(instruction);
  auto result = evaluate.states;
  result.insert(result.end(), evaluate.denoised.begin(), evaluate.denoised.end());
  return result;
}

}  // namespace

template <class S>
Run<S>::Run(const Denoiser& denoiser, Condition condition, at::Tensor start, KeepForAdjoint keep,
            const std::vector<at::Generator>& noise)
    : denoiser_(denoiser),
      condition_(std::move(condition)),
      keep_(keep),
      batch_(start.size(0)),
      shape_(start.sizes().vec()),
      of_states_(start.options()),
      noise_(noise) {
  registers_.push_back(std::move(start));
}

template <class S>
void Run<S>::advance(const Plan<S>& plan, const GridObserver& observe) {
  at::NoGradGuard no_grad;
  registers_.resize(static_cast<std::size_t>(plan.num_registers));
  kept_.resize(plan.instructions.size());
  upload_noise_levels(plan);
  if (plan.mean && done_ == 0) {
    EPD_ASSERT(condition_.mean.defined(), "a plan that begins with the mean of the data was given none");
    store(*plan.mean, condition_.mean.to(of_states_));
  }
  const bool frees = keep_ == KeepForAdjoint::kNothing;
  const auto last_use = frees ? last_uses(plan) : std::vector<std::size_t>();
  show(plan, observe);
  for (; done_ < plan.instructions.size(); ++done_) {
    const auto& instruction = plan.instructions[done_];
    std::visit([this](const auto& one) { run(one); }, instruction);
    show(plan, observe);
    if (!frees) continue;
    for (const Register r : registers_of(instruction)) {
      if (last_use[r] == done_) registers_[r].reset();
    }
  }
}

/// Shows the observer the grid points whose states have come to be known.
template <class S>
void Run<S>::show(const Plan<S>& plan, const GridObserver& observe) {
  while (observe && shown_ < plan.grid.size() && (*this)[plan.grid[shown_]].defined()) {
    observe(shown_, (*this)[plan.grid[shown_]]);
    ++shown_;
  }
}

/// By register the instruction after which neither an instruction nor the observer needs it.
template <class S>
std::vector<std::size_t> Run<S>::last_uses(const Plan<S>& plan) const {
  std::vector<std::size_t> first(registers_.size(), 0), last(registers_.size(), 0);
  for (std::size_t i = 0; i < plan.instructions.size(); ++i) {
    for (const Register r : registers_of(plan.instructions[i])) last[r] = i;
  }
  for (std::size_t i = plan.instructions.size(); i-- > 0;) {
    for (const Register r : registers_of(plan.instructions[i])) first[r] = i;
  }
  std::size_t shown = 0;
  for (const Register r : plan.grid) {  // in their order, so that one may wait for those before it
    shown = std::max(shown, first[r]);
    last[r] = std::max(last[r], shown);
  }
  last[plan.grid.back()] = plan.instructions.size();  // read by the caller
  return last;
}

template <class S>
void Run<S>::run(const Combine<S>& instruction) {
  std::vector<WeightedTensor> terms;
  for (const auto& term : instruction.sum.terms()) terms.push_back({value_of(term.coefficient), (*this)[term.source]});
  store(instruction.target, weighted_sum(terms));
}

template <class S>
void Run<S>::run(const Draw& instruction) {
  EPD_ASSERT(noise_.size() == static_cast<std::size_t>(batch_), "a plan that draws noise was given none");
  if (!std::exchange(has_own_noise_, true)) {
    for (auto& generator : noise_) generator = generator.clone();
  }
  auto noise = at::empty(shape_, at::TensorOptions(noise_[0].device()).dtype(at::kFloat));
  for (std::int64_t b = 0; b < batch_; ++b) noise.select(0, b).normal_(0, 1, noise_[static_cast<std::size_t>(b)]);
  store(instruction.target, to_device(noise, of_states_.device()).to(of_states_.dtype()));
}

template <class S>
void Run<S>::run(const Evaluate<S>& instruction) {
  const auto num_points = static_cast<std::int64_t>(instruction.states.size());
  at::Tensor denoised;
  if (keep_ == KeepForAdjoint::kActivations) {
    kept_[done_] = denoiser_.differentiate(inputs(instruction), noise_levels(done_), num_points, condition_);
    denoised = kept_[done_].denoised;
  } else {
    denoised = denoiser_.forward(inputs(instruction), noise_levels(done_), num_points, condition_);
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

/// Of all evaluations to come, in one copy that nobody waits for.
template <class S>
void Run<S>::upload_noise_levels(const Plan<S>& plan) {
  std::vector<double> sigmas;
  std::vector<std::int64_t> counts;
  for (std::size_t i = levels_.size(); i < plan.instructions.size(); ++i) {
    const auto* evaluate = std::get_if<Evaluate<S>>(&plan.instructions[i]);
    counts.push_back(evaluate ? static_cast<std::int64_t>(evaluate->sigmas.size()) : 0);
    if (!evaluate) continue;
    for (const S& sigma : evaluate->sigmas) sigmas.push_back(value_of(sigma));
  }
  const auto all = to_device(at::tensor(sigmas, at::kDouble).to(of_states_.dtype()), of_states_.device());
  for (auto& levels : all.split_with_sizes(counts)) levels_.push_back(std::move(levels));
}

/// [K * B], point-major.
template <class S>
at::Tensor Run<S>::noise_levels(std::size_t instruction) const {
  return levels_[instruction].unsqueeze(1).expand({-1, batch_}).reshape({-1});
}

template <class S>
void Run<S>::store(Register r, at::Tensor value) {
  registers_[static_cast<std::size_t>(r)] = std::move(value);
}

template <class S>
InputGradients Run<S>::pull_back(const Plan<S>& plan, std::size_t instruction, const at::Tensor& gradient) const {
  if (keep_ == KeepForAdjoint::kActivations) return kept_.at(instruction).pullback(gradient);
  EPD_ASSERT(keep_ == KeepForAdjoint::kStates, "a run that kept nothing has no adjoint");
  const auto& evaluate = std::get<Evaluate<S>>(plan.instructions[instruction]);
  return denoiser_.pull_back(inputs(evaluate), noise_levels(instruction),
                             static_cast<std::int64_t>(evaluate.states.size()), condition_, gradient);
}

template class Run<double>;
template class Run<Dual>;

at::Tensor execute(const Plan<double>& plan, const Denoiser& denoiser, const Condition& condition, at::Tensor start,
                   const GridObserver& observe, const std::vector<at::Generator>& noise) {
  Run<double> run(denoiser, condition, std::move(start), KeepForAdjoint::kNothing, noise);
  run.advance(plan, observe);
  return run[plan.grid.back()];
}

}  // namespace epd
