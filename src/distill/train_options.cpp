#include "epd/distill/train_options.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "epd/assets/paths.h"
#include "epd/sampling/common_options.h"

namespace epd {
namespace {

/// Unless told otherwise, teachers of two evaluations a step have one timestamp more in each interval: as published.
bool refines(SolverKind teacher) { return knows(teacher, "inner_steps") && info_of(teacher).evaluations == 2; }

Options optimisation_options_of(TrainOptions& o) {
  return Options("Optimisation")
      .add("total_kimg", o.total_kimg,
           help("training length in thousands of images")
               .decides_result()
               .in({.low = 0, .high = 1e9, .above_low = true}))
      .add("batch", o.batch, help("images per iteration, all processes together").decides_result().in(between(1, 1e6)))
      .add("lr", o.lr, help("learning rate of Adam (epd, ipndm)").decides_result().in(positive()).otherwise("0.2"))
      .add("lr_weights", o.rates.weights,
           help("ns: learning rate of the weights of denoised images").decides_result().in(at_least(0)))
      .add("lr_times", o.rates.times, help("ns: learning rate of log(time)").decides_result().in(at_least(0)))
      .add("lr_sigmas", o.rates.sigmas, help("ns: learning rate of log(sigma / time)").decides_result().in(at_least(0)))
      .add("coslr", o.coslr,
           help("cosine decay of the learning rate to 0.01 (ns: to 0)")
               .decides_result()
               .otherwise("True for ns, else False"))
      .add("search", o.search,
           help("estimate gradients from forward passes alone, for rewards and engines without gradients")
               .decides_result())
      .add("search_directions", o.search_directions,
           help("random directions tried per update, 2 forward passes each (0: as many as there are parameters)")
               .decides_result()
               .in(between(0, 1e6)))
      .add("search_scale", o.search_scale,
           help("how far raw parameters are moved to try a direction").decides_result().in(positive()))
      .add("val_images", o.val_images,
           help("held-out images that select the best predictor (0: keep the last)")
               .decides_result()
               .in(at_least(0))
               .otherwise(text(TrainOptions::kPlanValidationImages, " for ns, else 0")))
      .add("val_every", o.val_every, help("iterations between validations").decides_result().in(at_least(1)))
      .add("patience", o.patience,
           help("early stopping: validations without improvement (0: off)").decides_result().in(at_least(0)))
      .add("seed", o.seed, help("seed of the initial parameters and of all training images").decides_result());
}

}  // namespace

Options options_of(TrainOptions& o) {
  using namespace option_help;
  Options options("Student");
  options
      .add("sampler_stu", o.student,
           help("student: EPD, EPD on iPNDM, or a plan in which every number is learned").decides_result())
      .add("num_steps", o.num_steps,
           help("number of timestamps N: N - 1 student steps of 2 serial evaluations (ns: 1)")
               .decides_result()
               .in(between(ScheduleOptions::kMinSteps, ScheduleOptions::kMaxSteps)))
      .add("num_points", o.num_points, help("parallel points K per step").decides_result().in(between(1, 64)))
      .add("schedule_type", o.schedule_kind,
           help(kSchedule).decides_result().otherwise("polynomial; flow models: flowmatch"))
      .add("schedule_rho", o.schedule_rho,
           help("exponent of the schedule (polynomial, time_uniform, discrete), shift of flowmatch")
               .decides_result()
               .in(positive())
               .otherwise("7; flowmatch: the model's shift"))
      .add("sigma_min", o.range.min, help(kSigmaMin).decides_result().in(positive()))
      .add("sigma_max", o.range.max, help(kSigmaMax).decides_result().in(positive()))
      .add("afs", o.afs, help(kAfs).decides_result())
      .add("scale_dir", o.scale_dir,
           help("bound of the learned direction scale: within [1 - scale_dir, 1 + scale_dir]")
               .decides_result()
               .in({.low = 0, .high = 1, .below_high = true}))
      .add("scale_time", o.scale_time,
           help("bound of the learned noise-level scale: within [1 - scale_time, 1 + scale_time]")
               .decides_result()
               .in({.low = 0, .high = 1, .below_high = true}))
      .add("fcn", o.fcn, help("no direction scaling in the last step").decides_result())
      .add("max_order", o.max_order,
           help("order of multistep students and teachers").decides_result().otherwise("their highest"))
      .add("max_order_stu", o.max_order_stu, help("order of the student only").decides_result().otherwise("max_order"))
      .add("max_order_tea", o.max_order_tea, help("order of the teacher only").decides_result().otherwise("max_order"))
      .add("init", o.init,
           help("initial raw parameters, normal or midpoint (default: normal); for ns the initial plan, a solver on "
                "this grid, a plan file or a predictor (default: dpmpp)")
               .decides_content()
               .reads()
               .as("NAME|FILE|NUMBER"))
      .add("twin_shift", o.twin_shift,
           help("ns: initial noise level of the extra points of a stage, as a multiple of the stage's own")
               .decides_result()
               .in(positive()));
  options.group("Teacher")
      .add("sampler_tea", o.teacher, help("teacher solver").decides_result())
      .add("schedule_tea", o.schedule_tea,
           help("time schedule of the teacher (with --objective end_to_end)")
               .decides_result()
               .otherwise("the student's"))
      .add("schedule_rho_tea", o.schedule_rho_tea,
           help("exponent of the teacher's schedule").decides_result().in(positive()).otherwise("the student's"))
      .add("M", o.num_inserted,
           help("teacher timestamps inserted between two student timestamps").decides_result().in(between(0, 1000)))
      .add("inner_steps", o.inner_steps,
           help("teacher timestamps within each interval, both ends included")
               .decides_result()
               .otherwise(text("3 for ", solver_names(refines, " and "), ", else 2, no extra timestamp")))
      .add("predict_x0", o.predict_x0,
           help(text("teachers ", solvers_that_know("predict_x0", ", "),
                     ": data prediction instead of noise prediction"))
               .decides_result())
      .add("lower_order_final", o.lower_order_final,
           help(text("teachers ", solvers_that_know("lower_order_final", ", "), ": lower the order in the last steps"))
               .decides_result())
      .add("teacher_cache", o.teacher_cache,
           help("reuse this many teacher trajectories (0: new ones in every iteration)")
               .decides_result()
               .in(at_least(0)));
  options.group("Guidance")
      .add("guidance_type", o.guidance_type, help(kGuidance).decides_result())
      .add("guidance_rate", o.guidance_rate, help(kGuidanceRate).decides_result().otherwise("1"))
      .add("thresholding", o.thresholding, help(kThresholding).decides_result());
  options.group("Loss")
      .add("objective", o.objective, help("match the teacher at every step, or only at the end").decides_result())
      .add("loss_metric", o.loss_metric, help("loss at the last step").decides_result())
      .add("alpha", o.alpha, help("weight of the feature loss").decides_result().in(positive()))
      .add("alpha_from", o.alpha_from,
           help("fraction of training after which the feature loss is added (l2+features)")
               .decides_result()
               .in(between(0, 1)));
  return options.add(optimisation_options_of(o));
}

const TrainOptions& TrainOptions::validated() const {
  TrainOptions copy = *this;
  options_of(copy).check();
  EPD_REQUIRE_USAGE(dataset_name.find('/') == std::string::npos, "dataset_name: '", dataset_name,
                    "' is not a valid name");
  EPD_REQUIRE_USAGE(alpha_from == 0 || loss_metric == LossMetric::kL2AndFeatures,
                    "alpha_from: only for --loss_metric l2+features");
  EPD_REQUIRE_USAGE(!search || objective != Objective::kPerStep, "search: only for --objective end_to_end");
  EPD_REQUIRE_USAGE(patience == 0 || validation_images() > 0, "patience: needs --val_images");
  EPD_REQUIRE_USAGE(!(schedule_tea || schedule_rho_tea) || resolved_objective() == Objective::kEndToEnd,
                    "schedule_tea, schedule_rho_tea: the teacher must share the student's timestamps when every step "
                    "is matched; use --objective end_to_end");
  teacher_options(Clock::kEdm).validated();
  if (student == StudentKind::kNs) {
    check_plan_options();
    return *this;
  }
  value_of(kParameterInitNames, resolved_init(), "init");
  EPD_REQUIRE_USAGE(!max_order_stu || student == StudentKind::kIpndm, "max_order_stu: only for --sampler_stu ipndm");
  const auto order = max_order_stu ? max_order_stu : max_order;
  EPD_REQUIRE_USAGE(student == StudentKind::kEpd || !order || (*order >= 1 && *order <= 4),
                    "max_order: expected 1 to 4 for student ipndm, got ", order.value_or(0));
  return *this;
}

void TrainOptions::check_plan_options() const {
  EPD_REQUIRE_USAGE(!lr, "lr: not for student ns; use --lr_weights, --lr_times and --lr_sigmas");
  EPD_REQUIRE_USAGE(objective != Objective::kPerStep,
                    "objective: student ns learns its times, so only end_to_end is possible");
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
  if (student == StudentKind::kNs || search) return Objective::kEndToEnd;
  const bool few_steps = student == StudentKind::kEpd && num_steps < 6;
  return few_steps && find_dataset(dataset_name).end_to_end ? Objective::kEndToEnd : Objective::kPerStep;
}

double TrainOptions::learning_rate(std::int64_t iteration) const {
  // The groups' rates of student ns stand in the parameters themselves: this is their common factor.
  const bool factor = student == StudentKind::kNs;
  const double highest = factor ? 1 : lr.value_or(kDefaultRate), lowest = factor ? 0 : 0.01;
  if (!is_cosine()) return highest;
  const double period = std::floor(total_kimg * 1000 / static_cast<double>(batch)) + 1;
  const double phase = std::numbers::pi * static_cast<double>(iteration) / period;
  return lowest + 0.5 * (highest - lowest) * (1 + std::cos(phase));
}

TrainOptions TrainOptions::for_validation() const {
  TrainOptions result = *this;
  result.seed = ~seed;
  result.teacher_cache = validation_images();
  return result;
}

TimeSteps TrainOptions::teacher_grid(const PredictorSpec& student_spec, const SigmaMap* map) const {
  ScheduleOptions schedule = student_spec.schedule;
  schedule.kind = schedule_tea.value_or(schedule.kind);
  schedule.rho = schedule_rho_tea.value_or(schedule.rho);
  const int num_times = (num_inserted + 1) * (student_spec.num_steps - 1) + 1;
  if (student_spec.plan()) return make_time_steps(schedule, num_times, map);
  PredictorSpec finer;
  finer.schedule = schedule;
  finer.num_steps = num_times;
  return finer.time_steps(map);  // ends where the student does
}

SolverOptions TrainOptions::teacher_options(Clock clock) const {
  SolverOptions options;
  options.clock = clock;
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
  options.inner_steps = inner_steps.value_or(refines(teacher) ? 3 : 2);
  return options;
}

}  // namespace epd
