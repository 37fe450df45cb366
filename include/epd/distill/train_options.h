#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "epd/core/model_facts.h"
#include "epd/core/names.h"
#include "epd/core/options.h"
#include "epd/solver/make_plan.h"
#include "epd/solver/predictor_spec.h"

namespace epd {

/// When the parameters move: after every student step, or once per iteration by the last step's loss.
enum class Objective { kAuto, kPerStep, kEndToEnd };
inline constexpr NameTable<Objective, 3> kObjectiveNames{
    {{"auto", Objective::kAuto}, {"per_step", Objective::kPerStep}, {"end_to_end", Objective::kEndToEnd}}};

/// What the last step is compared by; the steps before it are compared by l2.
enum class LossMetric { kFeatures, kLpips, kL2, kL2AndFeatures };
inline constexpr NameTable<LossMetric, 4> kLossMetricNames{{
    {"features", LossMetric::kFeatures},
    {"lpips", LossMetric::kLpips},
    {"l2", LossMetric::kL2},
    {"l2+features", LossMetric::kL2AndFeatures},
}};

/// The adjoint's memory: run each evaluation again, or keep its activations.
enum class AdjointMemory { kRecompute, kKeep };
inline constexpr NameTable<AdjointMemory, 2> kAdjointMemoryNames{
    {{"recompute", AdjointMemory::kRecompute}, {"keep", AdjointMemory::kKeep}}};

/// The raw parameters of epd and ipndm before the first iteration: N(0, 1) as published, or points around the middle of
/// each step.
enum class ParameterInit { kNormal, kMidpoint };
inline constexpr NameTable<ParameterInit, 2> kParameterInitNames{
    {{"normal", ParameterInit::kNormal}, {"midpoint", ParameterInit::kMidpoint}}};

constexpr const auto& names_of(Objective) { return kObjectiveNames; }
constexpr const auto& names_of(LossMetric) { return kLossMetricNames; }
constexpr const auto& names_of(AdjointMemory) { return kAdjointMemoryNames; }

/// Everything that decides what a training run learns. Two runs with equal TrainOptions end with the same bits.
struct TrainOptions {
  static constexpr double kDefaultRate = 0.2;
  /// Student ns may end worse than its start, so it is validated unless told otherwise.
  static constexpr std::int64_t kPlanValidationImages = 128;

  std::string dataset_name;
  // The student.
  StudentKind student = StudentKind::kEpd;
  int num_steps = 4, num_points = 2;
  std::optional<ScheduleKind> schedule_kind;  // as schedule_for says, and the next two
  std::optional<double> schedule_rho;
  SigmaRange range;
  Afs afs = Afs::kNo;
  double scale_dir = 0.05, scale_time = 0.05;
  bool fcn = false;
  std::optional<int> max_order, max_order_stu, max_order_tea;
  std::string init;          // ParameterInit (unset: normal); for ns a solver (unset: dpmpp) or a predictor
  double twin_shift = 1.65;  // of ns: where the further points of a stage start, as a factor of its noise level
  // The teacher.
  SolverKind teacher = solver_kind("dpm");
  int num_inserted = 3;                      // M: grid points between two of the student's
  std::optional<int> inner_steps;            // none: 3 for solvers of two evaluations, else 2
  std::optional<ScheduleKind> schedule_tea;  // none: the student's; another one where the end alone is learned from
  std::optional<double> schedule_rho_tea;    // none: the student's
  bool predict_x0 = true, lower_order_final = true;
  std::int64_t teacher_cache = 0;  // train on this many trajectories again and again; 0: fresh ones every iteration
  // Guidance.
  GuidanceKind guidance_type = GuidanceKind::kNone;
  std::optional<double> guidance_rate;
  bool thresholding = false;
  // The loss.
  Objective objective = Objective::kAuto;
  LossMetric loss_metric = LossMetric::kFeatures;
  double alpha = 10;
  double alpha_from = 0;  // share of the iterations after which features join l2
  // The optimisation.
  double total_kimg = 10;
  std::int64_t batch = 64;    // images per iteration, over all processes
  std::optional<double> lr;   // unset: kDefaultRate; ns has `rates`
  NsRates rates;              // of ns
  std::optional<bool> coslr;  // unset: for student ns alone
  std::uint64_t seed = 0;
  bool search = false;        // by forward passes alone, without gradients
  int search_directions = 0;  // in which the parameters are moved each time; 0: as many as there are parameters
  double search_scale = 0.1;  // how far, in raw parameters
  // Validation: the predictor that is kept is the best one then, the start among them.
  std::optional<std::int64_t> val_images;  // 0: none, the last predictor is kept; unset: kPlanValidationImages for ns
  std::int64_t val_every = 10;             // iterations
  std::int64_t patience = 0;               // validations without a better one that end the training; 0: none do

  /// *this, or throws UsageError naming the option, its value and its bound.
  const TrainOptions& validated() const;

  bool is_cosine() const { return coslr.value_or(student == StudentKind::kNs); }
  std::int64_t validation_images() const {
    return val_images.value_or(student == StudentKind::kNs ? kPlanValidationImages : 0);
  }
  std::int64_t num_iterations() const;
  /// The published rule for `auto`: end_to_end for student epd on the pixel datasets with num_steps < 6, else per_step;
  /// for student ns, and where gradients are searched for, always end_to_end.
  Objective resolved_objective() const;
  /// The learning rate of an iteration: constant, or a cosine from lr to 0.01 (method.md, "Distillation"). For student
  /// ns a factor of its rates, a cosine from 1 to 0.
  double learning_rate(std::int64_t iteration) const;
  std::string resolved_init() const;
  /// The student before it has learned anything.
  PredictorSpec initial_predictor(const ModelFacts& facts) const;
  /// The same for the teacher of the validation's images, whose seeds are others.
  TrainOptions for_validation() const;
  SolverOptions teacher_options(Clock clock) const;
  /// The teacher's grid of (M + 1)(N - 1) + 1 points: it holds the student's, unless it has a schedule of its own.
  TimeSteps teacher_grid(const PredictorSpec& student, const SigmaMap* map) const;

 private:
  void check_plan_options() const;
};

/// The description of the options that decide what is learned.
Options options_of(TrainOptions& options);

}  // namespace epd
