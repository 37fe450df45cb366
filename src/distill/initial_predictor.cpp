#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "epd/distill/train_options.h"
#include "epd/documents/plan_json.h"
#include "epd/sampling/method.h"

namespace epd {
namespace {

/// Points around the middle of the step, from 0.35 to 0.65 of the way in t (one point: 0.5), with equal weights and no
/// scaling: the midpoint rule with its point drawn apart, so that the points can learn different things.
std::vector<double> midpoint_parameters(const PredictorSpec& spec, const TimeSteps& t) {
  std::vector<double> raw(spec.num_parameters(), 0.0);
  for (std::size_t n = 0; n < spec.num_intervals(); ++n) {
    const Interval step = t.interval(n);
    for (int k = 0; k < spec.num_points; ++k) {
      const double place = spec.num_points > 1 ? k / (spec.num_points - 1.0) : 0.5;
      const double c = 0.5 + 0.3 * (place - 0.5);
      const double r = std::log((step.cur + c * step.dt()) / step.cur) / std::log(step.next / step.cur);
      raw[spec.index(PredictorSpec::kR, n, static_cast<std::size_t>(k))] = std::log(r / (1 - r));
    }
  }
  return raw;
}

std::vector<double> normal_parameters(const PredictorSpec& spec, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto raw = at::randn({static_cast<std::int64_t>(spec.num_parameters())}, generator, at::kDouble);
  return {raw.const_data_ptr<double>(), raw.const_data_ptr<double>() + raw.numel()};
}

/// The method that a plan starts from: a solver on the student's grid, a predictor or a plan file.
MethodOptions start_method(const TrainOptions& o) {
  const auto init = o.resolved_init();
  const auto found = std::find_if(kSolverNames.begin(), kSolverNames.end(), [&](auto& s) { return init == s.first; });
  MethodOptions method;
  if (found == kSolverNames.end()) {
    (is_plan_file(init) ? method.plan : method.predictor_path) = init;
    return method;
  }
  method.solver = found->second;
  method.num_steps = o.num_steps;
  method.schedule_type = o.schedule_kind;
  method.schedule_rho = o.schedule_rho;
  method.range = o.range;
  method.afs = o.afs;
  const auto order = o.max_order_stu ? o.max_order_stu : o.max_order;
  if (order && highest_order(*method.solver) > 0) method.max_order = std::min(*order, highest_order(*method.solver));
  return method;
}

std::optional<NamedPredictor> find_start(const MethodOptions& method) {
  try {
    return find_method_predictor(method);
  } catch (const Error& error) {
    throw UsageError(text("init: expected ", all_names(kSolverNames), ", or a predictor or plan: ", error.what()));
  }
}

/// The start of student ns: a method's plan in global form, with extra points.
void set_initial_plan(PredictorSpec& spec, const TrainOptions& o, const ModelFacts& facts) {
  const auto start = start_method(o);
  const auto method = make_method(start, find_start(start), facts);
  spec.afs = method.afs;
  const auto& times = method.times.values();
  const auto plan = global_form(method.plan, times.front(), times.back());
  spec.set_plan(with_extra_points(validated(plan), o.num_points, o.twin_shift));
}

}  // namespace

PredictorSpec TrainOptions::initial_predictor(const ModelFacts& facts) const {
  PredictorSpec spec;
  spec.dataset_name = dataset_name;
  spec.resolution = facts.resolution;
  spec.channels = facts.channels;
  spec.label_dim = facts.label_dim;
  spec.num_steps = num_steps;
  spec.num_points = num_points;
  spec.schedule = schedule_for(facts, schedule_kind, schedule_rho, range);
  spec.afs = afs;
  spec.guidance_type = guidance_type;
  spec.guidance_rate = guidance_rate;
  if (student == StudentKind::kNs) {
    set_initial_plan(spec, *this, facts);
    return spec.validated();
  }
  auto& parameters = spec.parameters();
  parameters.on_ipndm = student == StudentKind::kIpndm;
  if (parameters.on_ipndm) parameters.max_order = max_order_stu ? max_order_stu : max_order.value_or(4);
  parameters.scale_dir = scale_dir;
  parameters.scale_time = scale_time;
  parameters.fcn = fcn;
  switch (value_of(kParameterInitNames, resolved_init(), "init")) {
    case ParameterInit::kNormal:
      parameters.raw = normal_parameters(spec, seed);
      break;
    case ParameterInit::kMidpoint:
      parameters.raw = midpoint_parameters(spec, spec.time_steps(make_sigma_map(facts.noise).get()));
      break;
  }
  return spec.validated();
}

}  // namespace epd
