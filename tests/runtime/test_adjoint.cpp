#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <map>
#include <string>
#include <tuple>

#include "epd/denoiser/chunked.h"
#include "epd/runtime/adjoint.h"
#include "epd/solver/make_plan.h"
#include "support/mixture_denoiser.h"

namespace epd {
namespace {

using testing::TensorMixture;
using LearningRun = Run<Dual>;  // inside a test, Run is gtest's

PredictorSpec student(StudentKind kind, int num_points, bool afs) {
  PredictorSpec spec;
  spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
  spec.dataset_name = "test";
  spec.resolution = spec.channels = 1;
  spec.num_steps = 4;
  spec.num_points = num_points;
  spec.schedule.kind = ScheduleKind::kTimeUniform;
  spec.schedule.rho = 1;
  spec.afs = afs ? Afs::kAnalytical : Afs::kNo;
  spec.parameters().scale_dir = 0.2;
  spec.parameters().scale_time = 0.3;
  if (kind == StudentKind::kIpndm) spec.parameters().max_order = 3;
  for (std::size_t i = 0; i < spec.num_parameters(); ++i)
    spec.parameters().raw.push_back(std::sin(2.7 * static_cast<double>(i)));
  return spec;
}

std::vector<Dual> learning(const std::vector<double>& raw) {
  std::vector<Dual> result;
  for (std::size_t i = 0; i < raw.size(); ++i) result.push_back(Dual::parameter(raw[i], i, raw.size()));
  return result;
}

Plan<Dual> plan_of(const PredictorSpec& spec) {
  auto solver = student_solver(spec, learning(spec.parameters().raw));
  PlanBuilder<Dual> plan;
  const auto t = spec.time_steps();
  auto x = plan.start();
  for (std::size_t n = 0; n < t.num_intervals(); ++n) x = append_step(plan, solver, x, t, n, spec.afs);
  return plan.plan();
}

/// The numbers of a plan as leaves of a tape, in float64 as the plan has them, and their gradients by the parameters.
struct Tape {
  std::vector<at::Tensor> leaves;
  std::vector<std::vector<double>> slopes;

  at::Tensor number(const Dual& value) {
    const auto leaf = at::full({}, value.value(), at::kDouble).requires_grad_(!value.gradient().empty());
    if (!value.gradient().empty()) {
      leaves.push_back(leaf);
      slopes.push_back(value.gradient());
    }
    return leaf;
  }
};

/// The parameters' gradient of sum(weights * end) by one autograd tape through the whole run, whose states and network
/// are of start's dtype.
at::Tensor by_full_tape(const Plan<Dual>& plan, const TensorMixture& denoiser, const Condition& condition,
                        const at::Tensor& start, const at::Tensor& weights, std::size_t num_parameters) {
  at::AutoGradMode with_grad(true);
  Tape tape;
  std::map<Register, at::Tensor> registers{{0, start}};
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<Dual>>(&instruction)) {
      auto sum = at::zeros(start.sizes(), at::kDouble);
      for (const auto& term : combine->sum.terms()) {
        const auto& source = registers.at(term.source);
        sum = sum + tape.number(term.coefficient) * (term.detached ? source.detach() : source).to(at::kDouble);
      }
      registers[combine->target] = sum.to(start.dtype());
      continue;
    }
    const auto& evaluate = std::get<Evaluate<Dual>>(instruction);
    for (std::size_t k = 0; k < evaluate.states.size(); ++k) {
      const auto sigma = tape.number(evaluate.sigmas[k]).to(start.dtype()).expand({start.size(0)});
      registers[evaluate.denoised[k]] = denoiser.evaluate(registers.at(evaluate.states[k]), sigma, 1, condition);
    }
  }
  const auto loss = (registers.at(plan.grid.back()) * weights).sum();
  const auto gradients = torch::autograd::grad({loss}, tape.leaves, {}, {}, false, /*allow_unused=*/true);
  auto total = at::zeros({static_cast<std::int64_t>(num_parameters)}, at::kDouble);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) total += gradients[i].to(at::kDouble) * at::tensor(tape.slopes[i], at::kDouble);
  }
  return total;
}

struct Variant {
  const char* name;
  KeepForAdjoint keep;
  std::int64_t chunk, points_at_once;
};

class AdjointAgainstTape : public ::testing::TestWithParam<std::tuple<const char*, int, bool, at::ScalarType>> {};

TEST_P(AdjointAgainstTape, GivesTheSameGradientWhateverIsKept) {
  const auto [kind, num_points, afs, dtype] = GetParam();
  const auto spec = student(value_of(kStudentNames, kind, "student"), num_points, afs);
  const auto plan = plan_of(spec);
  const auto generator = at::tensor({-0.9, 0.3, 1.2, -0.2, 0.7, 0.05, -1.6, 0.8}, at::kDouble).view({4, 2, 1, 1});
  const auto start = (80 * generator).to(dtype), weights = generator.flip(0).to(dtype);
  Condition condition;
  condition.labels = at::tensor({0, 1, 2, 1}, at::kLong);
  const auto inner = std::make_shared<TensorMixture>();
  const auto expected = by_full_tape(plan, *inner, condition, start, weights, spec.num_parameters());
  const double tolerance = dtype == at::kDouble ? 1e-10 : 1e-5;
  ASSERT_GT(expected.abs().max().item<double>(), 1e-3);

  const Variant variants[]{{"recompute", KeepForAdjoint::kStates, 4, 0},
                           {"keep", KeepForAdjoint::kActivations, 4, 0},
                           {"chunks", KeepForAdjoint::kStates, 3, 0},
                           {"one point at once", KeepForAdjoint::kStates, 4, 1}};
  for (const auto& variant : variants) {
    const ChunkedDenoiser denoiser(inner, {variant.chunk, variant.points_at_once});
    LearningRun run(denoiser, condition, start, variant.keep);
    run.advance(plan);
    const auto rows = parameter_gradients(plan, run, {{plan.grid.back(), weights}}, spec.num_parameters());
    ASSERT_EQ(rows.size(0), 4);
    const double gap = (rows.sum(0) - expected).abs().max().item<double>();
    EXPECT_LT(gap, tolerance * expected.abs().max().item<double>()) << variant.name;
  }
}

std::string student_name(const ::testing::TestParamInfo<AdjointAgainstTape::ParamType>& test) {
  const auto& [kind, num_points, afs, dtype] = test.param;
  return text(kind, "_", num_points, "points", afs ? "_afs_" : "_", at::toString(dtype));
}

INSTANTIATE_TEST_SUITE_P(Students, AdjointAgainstTape,
                         ::testing::Combine(::testing::Values("epd", "ipndm"), ::testing::Values(1, 2, 3),
                                            ::testing::Bool(), ::testing::Values(at::kDouble, at::kFloat)),
                         student_name);

TEST(Adjoint, TakesNoiseAsAConstant) {
  const auto c = Dual::parameter(0.5, 0, 1);
  PlanBuilder<Dual> builder;
  const auto noise = builder.noise();
  const auto x = builder.state(builder.start() + c * noise);
  builder.grid_point(x + c * noise);
  const auto stream = at::make_generator<at::CPUGeneratorImpl>(3);
  const auto n = at::empty({1, 20, 1, 1}).normal_(0, 1, stream.clone());
  const TensorMixture denoiser;
  LearningRun run(denoiser, {}, at::zeros({1, 20, 1, 1}), KeepForAdjoint::kStates, {stream});
  run.advance(builder.plan());
  const auto weights = at::arange(20).to(at::kFloat).view_as(n);
  const auto gradient = parameter_gradients(builder.plan(), run, {{builder.plan().grid.back(), weights}}, 1);
  EXPECT_NEAR(gradient.item<double>(), 2 * (weights * n).sum().item<double>(), 1e-4);
}

TEST(Adjoint, AgreesWithDifferencesOfTheWholeRun) {
  auto spec = student(StudentKind::kEpd, 2, false);
  const auto start = at::tensor({-60.0, 12.0}, at::kDouble).view({1, 2, 1, 1});
  const TensorMixture denoiser;
  const auto plan = plan_of(spec);
  LearningRun run(denoiser, {}, start, KeepForAdjoint::kStates);
  run.advance(plan);
  const auto end = plan.grid.back();
  const auto gradient = parameter_gradients(plan, run, {{end, 2 * run[end]}}, spec.num_parameters())[0];
  const auto loss = [&] { return execute(make_plan(spec, spec.time_steps()), denoiser, {}, start).square().sum(); };
  for (std::size_t p = 0; p < spec.num_parameters(); ++p) {
    const double step = 1e-5, value = spec.parameters().raw[p];
    spec.parameters().raw[p] = value + step;
    const double up = loss().item<double>();
    spec.parameters().raw[p] = value - step;
    const double down = loss().item<double>();
    spec.parameters().raw[p] = value;
    EXPECT_NEAR(gradient[static_cast<std::int64_t>(p)].item<double>(), (up - down) / (2 * step), 1e-7) << p;
  }
}

TEST(Adjoint, GivesNoGradientThroughADetachedTerm) {
  PlanBuilder<Dual> builder;
  const Dual c = Dual::parameter(0.5, 0, 2), d = Dual::parameter(-0.25, 1, 2);
  const auto first = builder.state(c * builder.start());
  builder.grid_point(first + d * detached(first));
  const auto start = at::full({1, 1, 1, 1}, 3.0, at::kDouble);
  const TensorMixture denoiser;
  LearningRun run(denoiser, {}, start, KeepForAdjoint::kStates);
  run.advance(builder.plan());
  const auto gradient =
      parameter_gradients(builder.plan(), run, {{builder.plan().grid.back(), at::ones_like(start)}}, 2);
  EXPECT_DOUBLE_EQ(gradient[0][0].item<double>(), 3.0);        // through `first` alone, not 3 (1 + d)
  EXPECT_DOUBLE_EQ(gradient[0][1].item<double>(), 0.5 * 3.0);  // the coefficient of the detached term still learns
}

}  // namespace
}  // namespace epd
