#include "epd/distill/optimizer.h"

#include <torch/optim/adam.h>

#include <memory>
#include <utility>

namespace epd {
namespace {

at::Tensor to_tensor(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

std::vector<double> to_vector(const at::Tensor& values) {
  const auto flat = values.detach().contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

}  // namespace

struct AdamOptimizer::Impl {
  at::Tensor parameters;
  torch::optim::Adam adam;

  explicit Impl(const std::vector<double>& values)
      : parameters(to_tensor(values).requires_grad_(true)),
        adam({parameters}, torch::optim::AdamOptions().betas({0.9, 0.999}).eps(1e-8)) {}

  void set(const at::Tensor& values) {
    at::NoGradGuard no_grad;
    parameters.copy_(values);
  }
};

AdamOptimizer::AdamOptimizer(const std::vector<double>& parameters) : impl_(std::make_unique<Impl>(parameters)) {}
AdamOptimizer::~AdamOptimizer() = default;

std::vector<double> AdamOptimizer::parameters() const { return to_vector(impl_->parameters); }

void AdamOptimizer::step(const std::vector<double>& gradient, double learning_rate) {
  impl_->parameters.mutable_grad() = to_tensor(gradient);
  impl_->adam.param_groups()[0].options().set_lr(learning_rate);
  impl_->adam.step();
}

AdamOptimizer::Moments AdamOptimizer::moments() const {
  const auto& states = impl_->adam.state();
  const auto found = states.find(impl_->parameters.unsafeGetTensorImpl());
  if (found == states.end()) {
    const std::vector<double> zeros(static_cast<std::size_t>(impl_->parameters.numel()), 0.0);
    return {zeros, zeros, 0};
  }
  const auto& state = static_cast<const torch::optim::AdamParamState&>(*found->second);
  return {to_vector(state.exp_avg()), to_vector(state.exp_avg_sq()), state.step()};
}

void AdamOptimizer::restore(const std::vector<double>& parameters, const Moments& moments) {
  impl_->set(to_tensor(parameters));
  auto& states = impl_->adam.state();
  states.clear();
  if (moments.steps == 0) return;
  auto state = std::make_unique<torch::optim::AdamParamState>();
  state->step(moments.steps);
  state->exp_avg(to_tensor(moments.mean));
  state->exp_avg_sq(to_tensor(moments.square));
  states[impl_->parameters.unsafeGetTensorImpl()] = std::move(state);
}

}  // namespace epd
