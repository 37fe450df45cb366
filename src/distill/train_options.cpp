#include "epd/distill/train_options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "epd/assets/registry.h"

namespace epd {
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
  EPD_REQUIRE_USAGE(!lr || (std::isfinite(*lr) && *lr > 0), "lr: expected a positive number, got ", lr.value_or(0));
  EPD_REQUIRE_USAGE(std::isfinite(schedule_rho) && schedule_rho > 0, "schedule_rho: expected a positive number, got ",
                    schedule_rho);
  EPD_REQUIRE_USAGE(std::isfinite(alpha) && alpha > 0, "alpha: expected a positive number, got ", alpha);
  EPD_REQUIRE_USAGE(alpha_from >= 0 && alpha_from <= 1, "alpha_from: expected 0 to 1, got ", alpha_from);
  EPD_REQUIRE_USAGE(alpha_from == 0 || loss_metric == LossMetric::kL2AndFeatures,
                    "alpha_from: features join l2 later; use --loss_metric l2+features");
  EPD_REQUIRE_USAGE(val_images >= 0 && patience >= 0, "val_images, patience: expected 0 or more");
  EPD_REQUIRE_USAGE(val_every >= 1, "val_every: expected 1 or more iterations, got ", val_every);
  EPD_REQUIRE_USAGE(patience == 0 || val_images > 0, "patience: it needs a validation, --val_images");
  EPD_REQUIRE_USAGE(!(schedule_tea || schedule_rho_tea) || resolved_objective() == Objective::kEndToEnd,
                    "schedule_tea, schedule_rho_tea: the teacher must pass the student's grid when every step is "
                    "compared; use --objective end_to_end");
  teacher_options().validated();
  EPD_REQUIRE_USAGE(teacher_cache >= 0, "teacher_cache: expected 0 or more trajectories, got ", teacher_cache);
  if (student == StudentKind::kNs) {
    check_plan_options();
    return *this;
  }
  value_of(kParameterInitNames, resolved_init(), "init");
  EPD_REQUIRE_USAGE(!max_order_stu || student == StudentKind::kIpndm,
                    "max_order_stu: student epd keeps no history; it is for --sampler_stu ipndm");
  const auto order = max_order_stu ? max_order_stu : max_order;
  EPD_REQUIRE_USAGE(student == StudentKind::kEpd || !order || (*order >= 1 && *order <= 4),
                    "max_order: expected 1 to 4 for student ipndm, got ", order.value_or(0));
  return *this;
}

void TrainOptions::check_plan_options() const {
  EPD_REQUIRE_USAGE(!lr, "lr: student ns has a rate for each group; use --lr_weights, --lr_times and --lr_sigmas");
  for (const double rate : {rates.weights, rates.times, rates.sigmas}) {
    EPD_REQUIRE_USAGE(std::isfinite(rate) && rate >= 0, "lr_weights, lr_times, lr_sigmas: expected 0 or more, got ",
                      rate);
  }
  EPD_REQUIRE_USAGE(std::isfinite(twin_shift) && twin_shift > 0, "twin_shift: expected a positive factor, got ",
                    twin_shift);
  EPD_REQUIRE_USAGE(objective != Objective::kPerStep,
                    "objective: the states of student ns leave the teacher's grid as its times move; use end_to_end");
}

std::string TrainOptions::resolved_init() const {
  if (!init.empty()) return init;
  return student == StudentKind::kNs ? "dpmpp" : "normal";
}

std::int64_t TrainOptions::num_iterations() const {
  return std::max<std::int64_t>(1,
                                static_cast<std::int64_t>(std::ceil(total_kimg * 1000 / static_cast<double>(batch))));
}

Objective TrainOptions::resolved_objective() const {
  if (objective != Objective::kAuto) return objective;
  if (student == StudentKind::kNs) return Objective::kEndToEnd;
  const bool few_steps = student == StudentKind::kEpd && num_steps < 6;
  return few_steps && find_dataset(dataset_name).end_to_end ? Objective::kEndToEnd : Objective::kPerStep;
}

double TrainOptions::learning_rate(std::int64_t iteration) const {
  // The groups' rates of student ns stand in the parameters themselves: this is their common factor.
  const bool factor = student == StudentKind::kNs;
  const double highest = factor ? 1 : lr.value_or(kDefaultRate), lowest = factor ? 0 : 0.01;
  if (!coslr) return highest;
  const double period = std::floor(total_kimg * 1000 / static_cast<double>(batch)) + 1;
  const double phase = std::numbers::pi * static_cast<double>(iteration) / period;
  return lowest + 0.5 * (highest - lowest) * (1 + std::cos(phase));
}

TrainOptions TrainOptions::for_validation() const {
  TrainOptions result = *this;
  result.seed = ~seed;
  result.teacher_cache = val_images;
  return result;
}

TimeSteps TrainOptions::teacher_grid(const PredictorSpec& student_spec, const SigmaMap* map) const {
  ScheduleOptions schedule = student_spec.schedule;
  schedule.kind = schedule_tea.value_or(schedule.kind);
  schedule.rho = schedule_rho_tea.value_or(schedule.rho);
  return make_time_steps(schedule, (num_inserted + 1) * (student_spec.num_steps - 1) + 1, map);
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
