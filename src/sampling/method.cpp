#include "epd/sampling/method.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/sha256.h"
#include "epd/documents/plan_json.h"
#include "epd/documents/predictor_json.h"
#include "epd/documents/run_dir.h"
#include "epd/files/atomic_file.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

/// An option that the predictor settles: it may be repeated, not contradicted.
template <class T, class Name>
void require_agreement(const char* option, const std::optional<T>& given, const T& settled, const Name& name_of_value) {
  EPD_REQUIRE_USAGE(!given || *given == settled, option, ": the predictor was made for ", name_of_value(settled),
                    ", got ", name_of_value(*given), "; omit the option");
}

template <class T>
void require_agreement(const char* option, const std::optional<T>& given, const T& settled) {
  require_agreement(option, given, settled, [](const T& value) { return value; });
}

/// An option that only some solvers know: elsewhere another value than the default would be passed over in silence.
template <class T>
void require_known(const char* option, const std::optional<T>& given, const T& otherwise, bool known,
                   const std::string& solver) {
  EPD_REQUIRE_USAGE(known || !given || *given == otherwise, option, ": solver ", solver, " does not have this option");
}

void check_against_predictor(const MethodOptions& o, const PredictorSpec& spec) {
  EPD_REQUIRE_USAGE(o.sigmas.empty(), "sigmas: a predictor has its own times; omit the option");
  const auto schedule_name = [](ScheduleKind kind) { return name_of(kScheduleNames, kind); };
  require_agreement("num_steps", o.num_steps, spec.num_steps);
  require_agreement("schedule_type", o.schedule_type, spec.schedule.kind, schedule_name);
  require_agreement("schedule_rho", o.schedule_rho, spec.schedule.rho);
  require_agreement("sigma_min", o.range.min, spec.schedule.sigma_min);
  require_agreement("sigma_max", o.range.max, spec.schedule.sigma_max);
  require_agreement("afs", o.afs, spec.afs, [](Afs afs) { return name_of(kAfsNames, afs); });
  const auto max_order = spec.plan() ? std::nullopt : spec.parameters().max_order;
  if (max_order) require_agreement("max_order", o.max_order, *max_order);
  const SolverOptions defaults;
  const std::string student = name_of(kStudentNames, spec.kind());
  EPD_REQUIRE_USAGE(!o.max_order || max_order, "max_order: this predictor does not use it; omit the option");
  require_known("inner_steps", o.inner_steps, defaults.inner_steps, false, student);
  require_known("unipc_variant", o.unipc_variant, defaults.unipc_variant, false, student);
  require_known("deis_mode", o.deis_mode, defaults.deis_mode, false, student);
}

void check_shape(const PredictorSpec& spec, const fs::path& path, const ModelFacts& facts, bool force) {
  const auto require = [&](const char* what, int predictors, int models, const char* way_out = "") {
    EPD_REQUIRE(predictors == models, "predictor ", path.string(), " is for ", spec.dataset_name, " with ", what, " ",
                predictors, "; the model of ", facts.dataset_name, " has ", models,
                ": predictor and model do not match", way_out);
  };
  require("resolution", spec.resolution, facts.resolution);
  require("channels", spec.channels, facts.channels);
  if (!force) {
    require("label_dim", spec.label_dim, facts.label_dim, "; --force_predictor uses it all the same");
  }
  if (spec.dataset_name != facts.dataset_name) {
    log::warning("the predictor was made for ", spec.dataset_name, ", the model is for ", facts.dataset_name);
  }
}

GuidanceOptions guidance_for(const MethodOptions& o, const PredictorSpec* spec) {
  GuidanceOptions guidance;
  if (spec) {
    guidance.kind = spec->guidance_type;
    guidance.rate = spec->guidance_rate.value_or(guidance.rate);
    const bool other = (o.guidance_type && *o.guidance_type != guidance.kind) ||
                       (o.guidance_rate && *o.guidance_rate != guidance.rate);
    if (other) log::warning("guidance differs from that of the predictor's training");
  }
  guidance.kind = o.guidance_type.value_or(guidance.kind);
  guidance.rate = o.guidance_rate.value_or(guidance.rate);
  guidance.thresholding = o.thresholding;
  EPD_REQUIRE_USAGE(!o.guidance_rate || guidance.kind != GuidanceKind::kNone,
                    "guidance_rate: it has no effect without --guidance_type");
  return guidance;
}

Method predictor_method(const MethodOptions& o, NamedPredictor predictor, const ModelFacts& facts) {
  const PredictorSpec& spec = predictor.spec;
  check_against_predictor(o, spec);
  check_shape(spec, predictor.path, facts, o.force_predictor.value_or(false));
  const auto map = make_sigma_map(facts.noise);
  const TimeSteps times = spec.time_steps(map.get());
  auto plan = make_plan(spec, times);
  Method method{.solver = name_of(kStudentNames, spec.kind()),
                .predictor = {},
                .plan_sha256 = {},
                .baseline = {},
                .schedule = spec.schedule,
                .afs = spec.afs,
                .guidance = guidance_for(o, &spec),
                .times = times,
                .plan = std::move(plan),
                .has_own_times = spec.plan() != nullptr};
  method.predictor = std::move(predictor);
  return method;
}

SolverOptions baseline_options(const MethodOptions& o, Clock clock) {
  SolverOptions solver;
  solver.clock = clock;
  solver.kind = *o.solver;
  solver.max_order = o.max_order;
  solver.predict_x0 = o.predict_x0.value_or(solver.predict_x0);
  solver.lower_order_final = o.lower_order_final.value_or(solver.lower_order_final);
  solver.afs = o.afs.value_or(solver.afs);
  solver.inner_steps = o.inner_steps.value_or(solver.inner_steps);
  solver.unipc_variant = o.unipc_variant.value_or(solver.unipc_variant);
  solver.deis_mode = o.deis_mode.value_or(solver.deis_mode);
  const SolverOptions defaults;
  const std::string name = name_of(kSolverNames, solver.kind);
  const auto check = [&](const char* option, const auto& given, const auto& otherwise) {
    require_known(option, given, otherwise, knows(solver.kind, option), name);
  };
  check("predict_x0", o.predict_x0, defaults.predict_x0);
  check("lower_order_final", o.lower_order_final, defaults.lower_order_final);
  check("unipc_variant", o.unipc_variant, defaults.unipc_variant);
  check("deis_mode", o.deis_mode, defaults.deis_mode);
  return solver.validated();
}

Method baseline_method(const MethodOptions& o, const ModelFacts& facts) {
  const auto solver = baseline_options(o, clock_of(facts.noise));
  const auto schedule = schedule_for(facts, o.schedule_type, o.schedule_rho, o.range);
  const auto map = make_sigma_map(facts.noise);
  const bool listed = !o.sigmas.empty();
  EPD_REQUIRE_USAGE(!listed || !(o.num_steps || o.schedule_type || o.schedule_rho || o.range.min || o.range.max),
                    "give --sigmas, or --num_steps and a schedule with its range, not both");
  const TimeSteps times =
      listed ? read_sigmas(o.sigmas) : make_time_steps(schedule, o.num_steps.value_or(4), map.get());
  const bool flow = std::holds_alternative<FlowNoise>(facts.noise);
  EPD_REQUIRE_USAGE(!flow || times[0] <= 1, "sigmas: expected at most 1 for a flow model, got ", times[0]);
  return {.solver = name_of(kSolverNames, solver.kind),
          .predictor = {},
          .plan_sha256 = {},
          .baseline = solver,
          .schedule = schedule,
          .afs = solver.afs,
          .guidance = guidance_for(o, nullptr),
          .times = times,
          .plan = make_plan(solver, times),
          .has_own_times = listed};
}

/// A plan file as it is: it settles all that is said of a solver.
Method plan_method(const MethodOptions& o, const ModelFacts& facts) {
  MethodOptions given = o;
  for (const Option& option : options_of(given)) {
    const bool settled = option.group == "Solver" && option.name != "plan" && !option.get().empty();
    EPD_REQUIRE_USAGE(!settled, option.name, ": the plan settles it; omit the option");
  }
  auto file = read_plan_file(o.plan);
  const auto clock = clock_of(facts.noise);
  EPD_REQUIRE(file.clock == clock, o.plan, ": clock is ", name_of(kClockNames, file.clock), ", and the model of ",
              facts.dataset_name, " runs on clock ", name_of(kClockNames, clock));
  Method method{.solver = "plan",
                .predictor = {},
                .plan_sha256 = sha256_of_file(o.plan),
                .baseline = {},
                .schedule = {},
                .afs = file.plan.mean ? Afs::kMean : Afs::kNo,
                .guidance = guidance_for(o, nullptr),
                .times = std::move(file.times),
                .plan = std::move(file.plan),
                .has_own_times = true};
  return method;
}

}  // namespace

std::optional<NamedPredictor> find_method_predictor(const MethodOptions& options) {
  const bool has_predictor = !options.predictor_path.empty();
  const bool has_plan = !options.plan.empty();
  EPD_REQUIRE_USAGE(has_predictor || has_plan || options.solver, "give --predictor_path, --plan, or --solver (",
                    all_names(kSolverNames), ")");
  EPD_REQUIRE_USAGE(!has_predictor || !options.solver, "give --predictor_path or --solver, not both");
  EPD_REQUIRE_USAGE(!has_plan || !(has_predictor || options.solver), "give --plan or ",
                    has_predictor ? "--predictor_path" : "--solver", ", not both");
  if (!has_predictor) return std::nullopt;
  const auto path =
      find_predictor(options.predictor_path, {"exp", project_dir() / "exp"});  // the user's own runs come first
  return NamedPredictor{path, sha256_of_file(path), read_predictor(path)};
}

Method make_method(const MethodOptions& options, std::optional<NamedPredictor> predictor, const ModelFacts& facts) {
  auto method = predictor               ? predictor_method(options, std::move(*predictor), facts)
                : !options.plan.empty() ? plan_method(options, facts)
                                        : baseline_method(options, facts);
  method.guidance.validated(facts);
  method.clock = clock_of(facts.noise);
  EPD_REQUIRE_USAGE(method.clock == Clock::kEdm || method.afs != Afs::kAnalytical || method.has_own_times,
                    "afs: True supposes EDM's noise; use mean, which is exact at the start of a flow");
  return method;
}

std::string Method::folder_name() const {
  if (!plan_sha256.empty()) return text("plan-", plan_sha256.substr(0, 8), "_nfe", nfe());
  const std::string name = text(solver, "_nfe", nfe());
  return predictor ? text(name, "_npoints_", num_points()) : name;
}

std::string Method::description() const {
  const std::string grid =
      has_own_times ? "times of its own" : text("schedule ", schedule_tag(schedule), " (", times.size(), " times)");
  std::string line = text("solver ", solver, ", ", grid);
  if (afs != Afs::kNo) line += afs == Afs::kMean ? ", AFS by the mean of the data" : ", AFS";
  if (predictor) line += text(", ", num_points(), " parallel points");
  if (guidance.kind != GuidanceKind::kNone) {
    line += text(", guidance ", name_of(kGuidanceNames, guidance.kind), " at rate ", guidance.rate);
  }
  return line;
}

ModelFacts facts_of(const PredictorSpec& spec) {
  ModelFacts facts;
  facts.dataset_name = spec.dataset_name;
  facts.resolution = spec.resolution;
  facts.channels = spec.channels;
  facts.label_dim = spec.label_dim;
  facts.sigma_min = spec.schedule.sigma_min;
  facts.sigma_max = spec.schedule.sigma_max;
  if (spec.schedule.kind == ScheduleKind::kFlowMatch) facts.noise = FlowNoise{};
  const bool text = spec.label_dim == 0 && spec.guidance_type == GuidanceKind::kClassifierFree;
  facts.condition = spec.label_dim > 0 ? ConditionKind::kLabel : text ? ConditionKind::kText : ConditionKind::kNone;
  facts.classifier = spec.guidance_type == GuidanceKind::kClassifier;
  facts.guide = spec.guidance_type == GuidanceKind::kAutoguidance;
  return facts;
}

ScheduleOptions schedule_for(const ModelFacts& facts, std::optional<ScheduleKind> kind, std::optional<double> rho,
                             const SigmaRange& range) {
  const auto* flow = std::get_if<FlowNoise>(&facts.noise);
  ScheduleOptions schedule;
  schedule.kind = kind.value_or(flow ? ScheduleKind::kFlowMatch : schedule.kind);
  if (schedule.kind == ScheduleKind::kFlowMatch) schedule.rho = flow ? flow->shift : 1;
  schedule.rho = rho.value_or(schedule.rho);
  schedule.sigma_min = range.min.value_or(facts.sigma_min);
  schedule.sigma_max = range.max.value_or(facts.sigma_max);
  EPD_REQUIRE_USAGE(!range.min || *range.min >= facts.sigma_min, "sigma_min: expected at least ", facts.sigma_min,
                    ", the lowest of the model of ", facts.dataset_name, ", got ", schedule.sigma_min);
  EPD_REQUIRE_USAGE(!range.max || *range.max <= facts.sigma_max, "sigma_max: expected at most ", facts.sigma_max,
                    ", the highest of the model of ", facts.dataset_name, ", got ", schedule.sigma_max);
  return schedule.validated();
}

TimeSteps read_sigmas(const std::string& list) {
  std::string content = list;
  const bool is_numbers = list.find_first_not_of("0123456789.eE+-, \t\n") == std::string::npos;
  if (!is_numbers) {
    fs::path file = list;
    for (const auto& exp : {fs::path("exp"), project_dir() / "exp"}) {
      if (!fs::exists(file)) file = exp / "zoo/sigmas" / (list + ".txt");
    }
    EPD_REQUIRE_USAGE(fs::exists(file), "sigmas: expected numbers, a file, or a name in exp/zoo/sigmas, got '",
                      shown(list), "'");
    constexpr std::uint64_t kMaxBytes = 1 << 20;
    content = read_file(file, kMaxBytes);
  }
  std::vector<double> sigmas;
  auto lines = stream_of(content);
  for (std::string line; std::getline(lines, line);) {
    line.erase(std::min(line.find('#'), line.size()));
    std::ranges::replace(line, ',', ' ');
    auto words = stream_of(line);
    for (std::string word; words >> word;) sigmas.push_back(read_number<double>(word, "sigmas"));
  }
  EPD_REQUIRE_USAGE(sigmas.size() <= ScheduleOptions::kMaxSteps, "sigmas: expected at most ",
                    ScheduleOptions::kMaxSteps, " numbers, got ", sigmas.size());
  return TimeSteps(std::move(sigmas), TimeSteps::Last::kMayBeZero);
}

ModelFacts facts_of(const PlanFile& file) {
  ModelFacts facts;
  facts.condition = ConditionKind::kText;  // whatever guidance is asked for may fit
  facts.guide = true;
  if (file.clock == Clock::kFlow) facts.noise = FlowNoise{};
  return facts;
}

}  // namespace epd
