#include "epd/distill/train_options.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace epd {
namespace {

/// Points around the middle of the step, c_k in [0.35, 0.65] of the way in t, with equal weights and no scaling: the
/// midpoint rule with its point drawn apart, so that the points can learn different things.
std::vector<double> midpoint_parameters(const PredictorSpec& spec, const TimeSteps& t) {
  std::vector<double> raw(spec.num_parameters(), 0.0);
  for (std::size_t n = 0; n < spec.num_intervals(); ++n) {
    const Interval step = t.interval(n);
    for (int k = 0; k < spec.num_points; ++k) {
      const double c = 0.5 + 0.3 * ((k + 0.5) / spec.num_points - 0.5) * (spec.num_points > 1 ? 2 : 0);
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

}  // namespace

const TrainOptions& TrainOptions::validated() const {
  EPD_REQUIRE_USAGE(dataset_name.find('/') == std::string::npos, "dataset_name: '", dataset_name, "' is no name");
  EPD_REQUIRE_USAGE(num_steps >= ScheduleOptions::kMinSteps && num_steps <= ScheduleOptions::kMaxSteps,
                    "num_steps: expected ", ScheduleOptions::kMinSteps, " to ", ScheduleOptions::kMaxSteps, ", got ",
                    num_steps);
  EPD_REQUIRE_USAGE(num_points >= 1 && num_points <= 64, "num_points: expected 1 to 64, got ", num_points);
  EPD_REQUIRE_USAGE(num_inserted >= 0 && num_inserted <= 1000, "M: expected 0 to 1000, got ", num_inserted);
  EPD_REQUIRE_USAGE(scale_dir >= 0 && scale_dir < 1, "scale_dir: expected 0 <= scale_dir < 1, got ", scale_dir);
  EPD_REQUIRE_USAGE(scale_time >= 0 && scale_time < 1, "scale_time: expected 0 <= scale_time < 1, got ", scale_time);
  EPD_REQUIRE_USAGE(total_kimg > 0 && total_kimg <= 1e9, "total_kimg: expected a positive number, got ", total_kimg);
  EPD_REQUIRE_USAGE(batch >= 1 && batch <= 1000000, "batch: expected 1 to 1000000, got ", batch);
  EPD_REQUIRE_USAGE(std::isfinite(lr) && lr > 0, "lr: expected a positive number, got ", lr);
  EPD_REQUIRE_USAGE(std::isfinite(alpha) && alpha > 0, "alpha: expected a positive number, got ", alpha);
  EPD_REQUIRE_USAGE(teacher_cache >= 0, "teacher_cache: expected 0 or more trajectories, got ", teacher_cache);
  EPD_REQUIRE_USAGE(!max_order_stu || student == StudentKind::kIpndm,
                    "max_order_stu: student epd keeps no history; it is for --sampler_stu ipndm");
  const auto order = max_order_stu ? max_order_stu : max_order;
  EPD_REQUIRE_USAGE(student == StudentKind::kEpd || !order || (*order >= 1 && *order <= 4),
                    "max_order: expected 1 to 4 for student ipndm, got ", order.value_or(0));
  teacher_options().validated();
  return *this;
}

std::int64_t TrainOptions::num_iterations() const {
  return std::max<std::int64_t>(1,
                                static_cast<std::int64_t>(std::ceil(total_kimg * 1000 / static_cast<double>(batch))));
}

Objective TrainOptions::resolved_objective() const {
  if (objective != Objective::kAuto) return objective;
  static constexpr std::array<const char*, 5> kPixelDatasets{"cifar10", "ffhq", "afhqv2", "imagenet64", "demo"};
  const bool pixels = std::find(kPixelDatasets.begin(), kPixelDatasets.end(), dataset_name) != kPixelDatasets.end();
  return student == StudentKind::kEpd && pixels && num_steps < 6 ? Objective::kEndToEnd : Objective::kPerStep;
}

double TrainOptions::learning_rate(std::int64_t iteration) const {
  if (!coslr) return lr;
  constexpr double kLowest = 0.01;
  const double period = std::floor(total_kimg * 1000 / static_cast<double>(batch)) + 1;
  const double phase = std::numbers::pi * static_cast<double>(iteration) / period;
  return kLowest + 0.5 * (lr - kLowest) * (1 + std::cos(phase));
}

PredictorSpec TrainOptions::initial_predictor(const ModelFacts& facts) const {
  PredictorSpec spec;
  spec.kind = student;
  spec.dataset_name = dataset_name;
  spec.resolution = facts.resolution;
  spec.channels = facts.channels;
  spec.label_dim = facts.label_dim;
  spec.num_steps = num_steps;
  spec.num_points = num_points;
  spec.schedule = {schedule_kind, schedule_rho, facts.sigma_min, facts.sigma_max};
  spec.afs = afs;
  if (student == StudentKind::kIpndm) spec.max_order = max_order_stu ? max_order_stu : max_order.value_or(4);
  spec.scale_dir = scale_dir;
  spec.scale_time = scale_time;
  spec.fcn = fcn;
  spec.guidance_type = guidance_type;
  spec.guidance_rate = guidance_rate;
  switch (init) {
    case ParameterInit::kNormal:
      spec.parameters = normal_parameters(spec, seed);
      break;
    case ParameterInit::kMidpoint:
      spec.parameters = midpoint_parameters(spec, spec.time_steps(make_sigma_map(facts.noise).get()));
      break;
  }
  return spec.validated();
}

SolverOptions TrainOptions::teacher_options() const {
  SolverOptions options;
  options.kind = teacher;
  if (highest_order(teacher) > 0) {
    options.max_order = max_order_tea ? max_order_tea : max_order;
    // max_order sets student and teacher at once, so it may exceed what this teacher can do.
    if (!max_order_tea && options.max_order) options.max_order = std::min(*options.max_order, highest_order(teacher));
  } else {
    EPD_REQUIRE_USAGE(!max_order_tea, "max_order_tea: teacher ", name_of(kSolverNames, teacher), " has a fixed order");
  }
  options.predict_x0 = predict_x0;
  options.lower_order_final = lower_order_final;
  const bool refines = teacher == SolverKind::kHeun || teacher == SolverKind::kDpm;
  options.inner_steps = inner_steps.value_or(refines ? 3 : 2);
  return options;
}

}  // namespace epd
