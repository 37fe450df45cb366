#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "epd/core/model_facts.h"
#include "epd/core/options.h"
#include "epd/denoiser/guidance.h"
#include "epd/schedule/schedule.h"
#include "epd/solver/make_plan.h"

namespace epd {

/// What the user says of the method. Unset means: what the predictor says, or without one the value in the comment.
struct MethodOptions {
  std::string predictor_path;  // a predictor.json, its folder, or an experiment number; else `solver` or `plan`
  std::optional<bool> force_predictor;  // also one of another model of the same shape, whatever its labels are
  std::string plan;                     // a plan file
  std::optional<SolverKind> solver;
  std::optional<int> num_steps;               // 4
  std::optional<ScheduleKind> schedule_type;  // as schedule_for says
  std::optional<double> schedule_rho;         // likewise
  SigmaRange range;                           // the model's
  std::string sigmas;                         // the times themselves, as read_sigmas reads them
  std::optional<Afs> afs;                     // none
  // Of classical solvers alone.
  std::optional<int> max_order;               // the solver's highest
  std::optional<int> inner_steps;             // 2: intervals are not refined
  std::optional<bool> predict_x0;             // true
  std::optional<bool> lower_order_final;      // true
  std::optional<UnipcVariant> unipc_variant;  // bh2
  std::optional<DeisMode> deis_mode;          // tab
  std::optional<GuidanceKind> guidance_type;  // none; given beside a predictor, it overrides the predictor's
  std::optional<double> guidance_rate;        // 1; likewise
  bool thresholding = false;
};

/// A predictor file, read.
struct NamedPredictor {
  std::filesystem::path path;
  std::string sha256;
  PredictorSpec spec;
};

Options options_of(MethodOptions& options);

/// The predictor that the options name; nothing for a classical solver or a plan. Experiment numbers are looked up in
/// ./exp, then among those that the product ships. Throws UsageError unless exactly one of predictor_path, solver and
/// plan is given, Error for a file that does not fit.
std::optional<NamedPredictor> find_method_predictor(const MethodOptions& options);

/// How images are drawn: the solver with its grid as a plan, and the guidance. Known before any weight is loaded.
struct Method {
  std::string solver;  // its name: epd or ipndm for a predictor, plan for a plan file, else euler, heun, ...
  std::optional<NamedPredictor> predictor;
  std::string plan_sha256;  // of a plan file; else empty
  SolverOptions baseline;   // without a predictor
  ScheduleOptions schedule;
  Afs afs = Afs::kNo;
  GuidanceOptions guidance;
  TimeSteps times;
  Plan<double> plan;
  Clock clock = Clock::kEdm;   // of the times
  bool has_own_times = false;  // learned, read from a plan or listed: no schedule's

  /// Serial evaluations, a guided one counted twice under cfg.
  int nfe() const { return plan.nfe() * guidance_cost(guidance.kind); }
  int evaluations() const { return plan.evaluations() * guidance_cost(guidance.kind); }
  /// Parallel points K; 1 without a predictor.
  int num_points() const { return predictor ? predictor->spec.num_points : 1; }
  /// The published name of the folder for its images: epd_nfe5_npoints_2; heun_nfe6 without a predictor;
  /// plan-0a1b2c3d_nfe5 for a plan file, by its SHA-256.
  std::string folder_name() const;
  /// One line for people: "solver epd, schedule uni1.0 (4 times), AFS, 2 parallel points, guidance cfg at rate 7.5".
  std::string description() const;
};

/// Throws UsageError for options that do not fit together, with the predictor or with the model (no noise table for
/// `discrete`, no classifier for `cg`), Error for a predictor of another model's shape.
Method make_method(const MethodOptions& options, std::optional<NamedPredictor> predictor, const ModelFacts& facts);

/// The schedule of a model. Unset means: polynomial (flow models: flowmatch), exponent 7 (flowmatch: the model's
/// shift), the model's ends. Throws UsageError for ends beyond the model's, or the wrong way round.
ScheduleOptions schedule_for(const ModelFacts& facts, std::optional<ScheduleKind> kind, std::optional<double> rho,
                             const SigmaRange& range);

/// Noise levels as the user lists them: numbers with commas, blanks or newlines between them, a file of such (what
/// follows # is a comment), or NAME for exp/zoo/sigmas/NAME.txt. Throws UsageError for a word that is not a number,
/// Error for levels that do not fall, positive but for a last 0.
TimeSteps read_sigmas(const std::string& list);

struct PlanFile;
/// The facts that a predictor, or a plan file, alone knows of its model: enough for its plan.
ModelFacts facts_of(const PredictorSpec& spec);
ModelFacts facts_of(const PlanFile& file);

}  // namespace epd
