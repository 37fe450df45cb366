#include "epd/solver/predictor_spec.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace epd {
namespace {

template <class S>
S sigmoid(const S& x) {
  using std::exp;
  // Written for either sign, so that exp never overflows.
  if (value_of(x) >= 0) return 1 / (1 + exp(-x));
  const S e = exp(x);
  return e / (1 + e);
}

template <class S>
S scale_around_one(const S& parameter, double range) {
  return 2 * range * sigmoid(0.5 * parameter) + (1 - range);
}

template <class S>
std::vector<S> softmax(const std::vector<S>& logits) {
  using std::exp;
  double highest = value_of(logits[0]);
  for (const S& logit : logits) highest = std::max(highest, value_of(logit));
  std::vector<S> result;
  S sum = 0;
  for (const S& logit : logits) {
    result.push_back(exp(logit - highest));
    sum += result.back();
  }
  for (S& weight : result) weight /= sum;
  return result;
}

}  // namespace

StudentKind PredictorSpec::kind() const {
  if (plan()) return StudentKind::kNs;
  return parameters().on_ipndm ? StudentKind::kIpndm : StudentKind::kEpd;
}

const PredictorSpec& PredictorSpec::validated() const {
  EPD_REQUIRE(num_steps >= ScheduleOptions::kMinSteps && num_steps <= ScheduleOptions::kMaxSteps,
              "predictor: num_steps is ", num_steps, ", expected ", ScheduleOptions::kMinSteps, " to ",
              ScheduleOptions::kMaxSteps);
  EPD_REQUIRE(num_points >= 1 && num_points <= kMaxPoints, "predictor: num_points is ", num_points, ", expected 1 to ",
              kMaxPoints);
  EPD_REQUIRE(!guidance_rate || std::isfinite(*guidance_rate), "predictor: guidance_rate is not a finite number");
  schedule.validated();
  std::visit([this](const auto& of_kind) { check(of_kind); }, learned);
  return *this;
}

void PredictorSpec::check(const NsPlan<double>& plan) const {
  epd::validated(plan);
  EPD_REQUIRE(static_cast<std::size_t>(num_points) == plan.num_points(), "predictor: num_points is ", num_points,
              ", and the largest stage of the plan has ", plan.num_points());
  EPD_REQUIRE(num_intervals() == plan.stages.size() + (afs == Afs::kNo ? 0 : 1), "predictor: num_steps is ", num_steps,
              ", and the plan has ", plan.stages.size(), " stages", afs == Afs::kNo ? "" : " beside its first step");
  EPD_REQUIRE(plan.mean == (afs == Afs::kMean), "predictor: afs is ", name_of(kAfsNames, afs), ", and the plan ",
              plan.mean ? "begins" : "does not begin", " with the mean of the data");
}

void PredictorSpec::set_plan(NsPlan<double> plan) {
  num_steps = static_cast<int>(plan.stages.size()) + (afs == Afs::kNo ? 1 : 2);
  num_points = static_cast<int>(plan.num_points());
  learned = std::move(plan);
}

void PredictorSpec::check(const EpdParameters& p) const {
  EPD_REQUIRE(!p.max_order || (*p.max_order >= 1 && *p.max_order <= AdamsBashforth<double>::kMaxOrder),
              "predictor: max_order is ", p.max_order.value_or(0), ", expected 1 to 4");
  EPD_REQUIRE(p.scale_dir >= 0 && p.scale_dir < 1, "predictor: scale_dir is ", p.scale_dir,
              ", expected 0 <= scale_dir < 1");
  EPD_REQUIRE(p.scale_time >= 0 && p.scale_time < 1, "predictor: scale_time is ", p.scale_time,
              ", expected 0 <= scale_time < 1");
  EPD_REQUIRE(!t_steps || t_steps->size() == static_cast<std::size_t>(num_steps), "predictor: t_steps has ",
              t_steps ? t_steps->size() : 0, " entries, expected num_steps = ", num_steps);
  if (t_steps) TimeSteps{*t_steps};  // falling and positive, or throws
  EPD_REQUIRE(p.raw.size() == num_parameters(), "predictor: ", p.raw.size(), " parameters, expected ", num_parameters(),
              " for num_steps ", num_steps, " and num_points ", num_points);
  const bool finite = std::ranges::all_of(p.raw, [](double value) { return std::isfinite(value); });
  EPD_REQUIRE(finite, "predictor: a parameter is not a finite number");
}

TimeSteps PredictorSpec::time_steps(const SigmaMap* map) const {
  if (plan()) return TimeSteps({plan()->t_0, plan()->end.sigma}, TimeSteps::Last::kMayBeZero);
  if (t_steps) return TimeSteps(*t_steps);
  if (schedule.kind != ScheduleKind::kFlowMatch) return make_time_steps(schedule, num_steps, map);
  auto shifted = make_time_steps(schedule, num_steps + 1).values();
  shifted.pop_back();  // points between two times are means of their logarithms, so that no step goes to 0
  return TimeSteps(std::move(shifted));
}

template <class S>
std::vector<EpdCoefficients<S>> epd_table(const PredictorSpec& spec, const std::vector<S>& raw) {
  const EpdParameters& bounds = spec.parameters();
  std::vector<EpdCoefficients<S>> table(spec.num_intervals());
  const auto num_points = static_cast<std::size_t>(spec.num_points);
  for (std::size_t n = 0; n < table.size(); ++n) {
    const auto at = [&](PredictorSpec::Group group, std::size_t k) { return raw.at(spec.index(group, n, k)); };
    const bool plain_direction = bounds.fcn && n + 1 == table.size();
    std::vector<S> logits;
    for (std::size_t k = 0; k < num_points; ++k) {
      table[n].r.push_back(sigmoid(at(PredictorSpec::kR, k)));
      logits.push_back(at(PredictorSpec::kWeight, k));
      table[n].scale_dir.push_back(
          plain_direction ? S(1) : scale_around_one(at(PredictorSpec::kScaleDir, k), bounds.scale_dir));
      table[n].scale_time.push_back(scale_around_one(at(PredictorSpec::kScaleTime, k), bounds.scale_time));
    }
    table[n].weight = softmax(logits);
  }
  return table;
}

template std::vector<EpdCoefficients<double>> epd_table(const PredictorSpec&, const std::vector<double>&);
template std::vector<EpdCoefficients<Dual>> epd_table(const PredictorSpec&, const std::vector<Dual>&);

}  // namespace epd
