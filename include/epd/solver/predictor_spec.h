#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "epd/core/model_facts.h"
#include "epd/core/names.h"
#include "epd/schedule/schedule.h"
#include "epd/solver/epd.h"
#include "epd/solver/ns_plan.h"

namespace epd {

/// EPD, EPD on iPNDM, or a whole plan whose every number is learned.
enum class StudentKind { kEpd, kIpndm, kNs };

inline constexpr NameTable<StudentKind, 3> kStudentNames{
    {{"epd", StudentKind::kEpd}, {"ipndm", StudentKind::kIpndm}, {"ns", StudentKind::kNs}}};
constexpr const auto& names_of(StudentKind) { return kStudentNames; }

/// What students epd and ipndm learn: raw parameters, which epd_table() turns into the coefficients of the steps.
struct EpdParameters {
  bool on_ipndm = false;         // the intermediate states follow the Adams-Bashforth direction: kind ipndm
  std::optional<int> max_order;  // of its history; none: the highest
  double scale_dir = 0.05, scale_time = 0.05;
  bool fcn = false;         // scale_dir is 1 in the last step
  std::vector<double> raw;  // [group][step][point], PredictorSpec::num_parameters() of them
};

/// A predictor: everything that sampling with a distilled solver needs, and what it learned. A plain struct;
/// predictor.json is its text.
struct PredictorSpec {
  static constexpr int kVersion = 1, kMaxPoints = 64;
  /// The groups of raw parameters, in the order of the flat vector.
  enum Group { kR, kWeight, kScaleDir, kScaleTime, kNumGroups };
  static constexpr std::array<const char*, kNumGroups> kGroupNames{"r", "weight", "scale_dir", "scale_time"};

  std::string dataset_name;
  int resolution = 0, channels = 0, label_dim = 0;  // of the state that the model denoises
  int num_steps = 4, num_points = 2;
  ScheduleOptions schedule;
  std::optional<std::vector<double>> t_steps;  // explicit times; they rule over the schedule
  Afs afs = Afs::kNo;
  GuidanceKind guidance_type = GuidanceKind::kNone;
  std::optional<double> guidance_rate;
  std::string source;
  std::variant<EpdParameters, NsPlan<double>> learned;

  StudentKind kind() const;
  /// Of kinds epd and ipndm.
  const EpdParameters& parameters() const { return std::get<EpdParameters>(learned); }
  EpdParameters& parameters() { return std::get<EpdParameters>(learned); }
  /// Of kind ns, else null.
  const NsPlan<double>* plan() const { return std::get_if<NsPlan<double>>(&learned); }

  std::size_t num_intervals() const { return static_cast<std::size_t>(num_steps) - 1; }
  std::size_t num_parameters() const { return kNumGroups * num_intervals() * static_cast<std::size_t>(num_points); }
  std::size_t index(Group group, std::size_t step, std::size_t point) const {
    return (group * num_intervals() + step) * static_cast<std::size_t>(num_points) + point;
  }

  /// Makes it a predictor of kind ns, with num_steps and num_points as they follow from the plan.
  void set_plan(NsPlan<double> plan);

  /// *this, or throws Error naming the field, its value and its bound.
  const PredictorSpec& validated() const;
  /// t_steps if given, else the schedule's; kind ns: where its plan begins and ends.
  TimeSteps time_steps(const SigmaMap* map = nullptr) const;

 private:
  void check(const EpdParameters& p) const;
  void check(const NsPlan<double>& plan) const;
};

/// The coefficients of every step from raw parameters (EPD section 3.3; method.md):
///   r = sigmoid(r_params), w = softmax_k(weight_s), scale in [1 - S, 1 + S] = 2 S sigmoid(p / 2) + 1 - S.
/// `raw` is spec.parameters().raw, or the same numbers as learning parameters.
template <class S>
std::vector<EpdCoefficients<S>> epd_table(const PredictorSpec& spec, const std::vector<S>& raw);

}  // namespace epd
