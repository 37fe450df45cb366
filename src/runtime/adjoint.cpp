#include "epd/runtime/adjoint.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <utility>
#include <vector>

#include "epd/runtime/linear.h"

namespace epd {
namespace {

bool learns(const Dual& number) { return !number.gradient().empty(); }

/// Which registers depend on a number that learns: only these need a gradient.
std::vector<bool> registers_that_learn(const Plan<Dual>& plan) {
  std::vector<bool> result(static_cast<std::size_t>(plan.num_registers), false);
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<Dual>>(&instruction)) {
      for (const auto& term : combine->sum.terms()) {
        if (learns(term.coefficient) || (!term.detached && result[term.source])) result[combine->target] = true;
      }
    } else if (const auto* evaluate = std::get_if<Evaluate<Dual>>(&instruction)) {
      for (std::size_t k = 0; k < evaluate->states.size(); ++k) {
        result[evaluate->denoised[k]] = learns(evaluate->sigmas[k]) || result[evaluate->states[k]];
      }
    }
  }
  return result;
}

class Adjoint {
 public:
  Adjoint(const Plan<Dual>& plan, const Run<Dual>& run, RegisterGradients gradients, std::size_t num_parameters)
      : plan_(plan),
        run_(run),
        lambda_(std::move(gradients)),
        learning_(registers_that_learn(plan)),
        num_parameters_(static_cast<std::int64_t>(num_parameters)) {}

  at::Tensor run_backwards() {
    for (std::size_t i = plan_.instructions.size(); i-- > 0;) {
      if (const auto* instruction = std::get_if<Combine<Dual>>(&plan_.instructions[i])) {
        combine(*instruction);
      } else if (const auto* forward = std::get_if<Evaluate<Dual>>(&plan_.instructions[i])) {
        evaluate(*forward, i);
      }
    }
    return by_parameters();
  }

 private:
  void combine(const Combine<Dual>& instruction) {
    const auto lambda = take(instruction.target);
    if (!lambda.defined()) return;
    for (const auto& term : instruction.sum.terms()) {
      if (learns(term.coefficient)) learn(term.coefficient, inner_products(lambda, run_[term.source]));
      if (!term.detached) add(term.source, value_of(term.coefficient), lambda);
    }
  }

  void evaluate(const Evaluate<Dual>& instruction, std::size_t index) {
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
    const auto gradients = run_.pull_back(plan_, index, lambdas.size() == 1 ? lambdas[0] : at::cat(lambdas));
    const auto by_state = gradients.x.split(run_.batch()), by_sigma = gradients.sigma.split(run_.batch());
    for (std::size_t k = 0; k < lambdas.size(); ++k) {
      if (learns(instruction.sigmas[k])) learn(instruction.sigmas[k], by_sigma[k].to(at::kDouble));
      add(instruction.states[k], 1, by_state[k]);
    }
  }

  /// One number of the plan, a coefficient or a noise level, and the loss's gradient by it per image, float64 [B].
  void learn(const Dual& number, const at::Tensor& per_image) {
    numbers_.push_back(number.gradient());
    by_numbers_.push_back(per_image);
  }

  /// The chain rule from the numbers to the parameters; what the device found comes over at once.
  at::Tensor by_parameters() const {
    auto result = at::zeros({run_.batch(), num_parameters_}, at::kDouble);
    if (numbers_.empty()) return result;
    const auto per_image = at::stack(by_numbers_).cpu();
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      result.addr_(per_image[static_cast<std::int64_t>(i)], at::tensor(numbers_[i], at::kDouble));
    }
    return result;
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

  const Plan<Dual>& plan_;
  const Run<Dual>& run_;
  RegisterGradients lambda_;
  std::vector<bool> learning_;
  std::int64_t num_parameters_;
  std::vector<std::vector<double>> numbers_;
  std::vector<at::Tensor> by_numbers_;
};

}  // namespace

at::Tensor parameter_gradients(const Plan<Dual>& plan, const Run<Dual>& run, RegisterGradients gradients,
                               std::size_t num_parameters) {
  at::NoGradGuard no_grad;
  return Adjoint(plan, run, std::move(gradients), num_parameters).run_backwards();
}

}  // namespace epd
