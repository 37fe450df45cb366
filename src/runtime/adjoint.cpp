#include "epd/runtime/adjoint.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <utility>
#include <vector>

#include "epd/runtime/linear.h"

namespace epd {
namespace {

bool learns(double) { return true; }
bool learns(const Dual& number) { return !number.gradient().empty(); }

/// Which registers depend on a number that learns: only these need a gradient.
template <class S>
std::vector<bool> registers_that_learn(const Plan<S>& plan) {
  std::vector<bool> result(static_cast<std::size_t>(plan.num_registers), false);
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<S>>(&instruction)) {
      for (const auto& term : combine->sum.terms()) {
        const bool moves = learns(term.coefficient) || (!term.detached && result[term.source]);
        if (moves) result[combine->target] = true;
      }
      continue;
    }
    const auto& evaluate = std::get<Evaluate<S>>(instruction);
    for (std::size_t k = 0; k < evaluate.states.size(); ++k) {
      result[evaluate.denoised[k]] = learns(evaluate.sigmas[k]) || result[evaluate.states[k]];
    }
  }
  return result;
}

template <class S>
class Adjoint {
 public:
  Adjoint(const Plan<S>& plan, const Run<S>& run, RegisterGradients gradients, const GradientSink<S>& sink)
      : plan_(plan), run_(run), sink_(sink), lambda_(std::move(gradients)), learning_(registers_that_learn(plan)) {}

  void walk_back() {
    for (std::size_t i = plan_.instructions.size(); i-- > 0;) {
      if (const auto* instruction = std::get_if<Combine<S>>(&plan_.instructions[i])) {
        combine(*instruction);
      } else {
        evaluate(std::get<Evaluate<S>>(plan_.instructions[i]), i);
      }
    }
  }

 private:
  void combine(const Combine<S>& instruction) {
    const auto lambda = take(instruction.target);
    if (!lambda.defined()) return;
    for (const auto& term : instruction.sum.terms()) {
      if (learns(term.coefficient)) sink_(term.coefficient, inner_products(lambda, run_[term.source]));
      if (!term.detached) add(term.source, value_of(term.coefficient), lambda);
    }
  }

  void evaluate(const Evaluate<S>& instruction, std::size_t index) {
    std::vector<at::Tensor> lambdas;
    bool any = false;
    for (const Register denoised : instruction.denoised) {
      lambdas.push_back(take(denoised));
      any = any || lambdas.back().defined();
    }
    if (!any) return;
    for (auto& lambda : lambdas) {
      if (!lambda.defined()) lambda = at::zeros_like(run_[instruction.states[0]]);
    }
    const auto gradients =
        run_.differentiate(plan_, index).pullback(lambdas.size() == 1 ? lambdas[0] : at::cat(lambdas));
    const auto by_state = gradients.x.split(run_.batch()), by_sigma = gradients.sigma.split(run_.batch());
    for (std::size_t k = 0; k < lambdas.size(); ++k) {
      if (learns(instruction.sigmas[k])) sink_(instruction.sigmas[k], by_sigma[k].to(at::kCPU, at::kDouble));
      add(instruction.states[k], 1, by_state[k]);
    }
  }

  /// lambda_r += factor * gradient.
  void add(Register r, double factor, const at::Tensor& gradient) {
    if (!learning_[static_cast<std::size_t>(r)]) return;
    at::Tensor& lambda = lambda_[r];
    lambda = lambda.defined() ? weighted_sum({{1, lambda}, {factor, gradient}}) : weighted_sum({{factor, gradient}});
  }

  /// The finished gradient by a register; it is needed no more.
  at::Tensor take(Register r) {
    const auto found = lambda_.find(r);
    if (found == lambda_.end()) return {};
    auto lambda = std::move(found->second);
    lambda_.erase(found);
    return lambda;
  }

  const Plan<S>& plan_;
  const Run<S>& run_;
  const GradientSink<S>& sink_;
  RegisterGradients lambda_;
  std::vector<bool> learning_;
};

}  // namespace

template <class S>
void adjoint(const Plan<S>& plan, const Run<S>& run, RegisterGradients gradients, const GradientSink<S>& sink) {
  at::NoGradGuard no_grad;
  Adjoint<S>(plan, run, std::move(gradients), sink).walk_back();
}

template void adjoint(const Plan<double>&, const Run<double>&, RegisterGradients, const GradientSink<double>&);
template void adjoint(const Plan<Dual>&, const Run<Dual>&, RegisterGradients, const GradientSink<Dual>&);

at::Tensor parameter_gradients(const Plan<Dual>& plan, const Run<Dual>& run, RegisterGradients gradients,
                               std::size_t num_parameters) {
  auto result = at::zeros({run.batch(), static_cast<std::int64_t>(num_parameters)}, at::kDouble);
  const GradientSink<Dual> sink = [&](const Dual& number, const at::Tensor& per_image) {
    result.addr_(per_image, at::tensor(number.gradient(), at::kDouble));
  };
  adjoint(plan, run, std::move(gradients), sink);
  return result;
}

}  // namespace epd
