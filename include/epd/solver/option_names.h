#pragma once

#include "epd/core/options.h"
#include "epd/solver/make_plan.h"

/// The name tables of the solvers' and schedules' enums, for options.
namespace epd {

constexpr const auto& names_of(SolverKind) { return kSolverNames; }
constexpr const auto& names_of(StudentKind) { return kStudentNames; }
constexpr const auto& names_of(ScheduleKind) { return kScheduleNames; }
constexpr const auto& names_of(UnipcVariant) { return kUnipcVariantNames; }
constexpr const auto& names_of(DeisMode) { return kDeisModeNames; }
constexpr const auto& names_of(GuidanceKind) { return kGuidanceNames; }

/// --afs: a boolean that takes `mean` too.
template <>
struct OptionValue<Afs> {
  static constexpr auto kKind = Option::Kind::kBool;
  static std::string type() { return "BOOL|mean"; }
  static Afs read(const std::string& word, const std::string& name) {
    const auto yes_or_no = read_bool(word);
    EPD_REQUIRE_USAGE(yes_or_no || word == "mean", name, ": expected True, False or mean, got '", shown(word), "'");
    return !yes_or_no ? Afs::kMean : *yes_or_no ? Afs::kAnalytical : Afs::kNo;
  }
  static std::string write(Afs value) { return name_of(kAfsNames, value); }
};

}  // namespace epd
