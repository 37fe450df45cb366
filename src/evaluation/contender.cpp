#include "epd/evaluation/contender.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/documents/predictor_json.h"

namespace epd {
namespace {

constexpr std::string_view kMeanMark = "+mean";

/// What stands before `mark`, which is cut off from `rest` together with it; all of `rest` where there is no mark.
std::string cut_before(std::string& rest, char mark) {
  const auto at = rest.find(mark);
  std::string before = rest.substr(0, at);
  rest.erase(0, at == std::string::npos ? at : at + 1);
  return before;
}

template <class Number>
Number to_number(const std::string& digits, const char* what, const std::string& whole) {
  Number number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  EPD_REQUIRE_USAGE(
      error == std::errc() && end == digits.data() + digits.size(), "solvers: the ", what, " in '", whole,
      "' is not a number; write solver, solver:order, solver:order@schedule or solver:order@schedule:rho");
  return number;
}

}  // namespace

Contender read_contender(const std::string& whole, int nfe, ScheduleKind schedule) {
  std::string at_rho = whole;
  std::string at_order = cut_before(at_rho, '@');
  const std::string at_schedule = cut_before(at_rho, ':');
  const bool mean = at_order.ends_with(kMeanMark);
  if (mean) at_order.erase(at_order.size() - kMeanMark.size());
  const std::string solver = cut_before(at_order, ':');

  Contender contender;
  MethodOptions& method = contender.method;
  method.solver = value_of(kSolverNames, solver, "solvers");
  method.schedule_type = at_schedule.empty() ? schedule : value_of(kScheduleNames, at_schedule, "solvers");
  // flowmatch: the model's shift
  if (method.schedule_type != ScheduleKind::kFlowMatch) {
    method.schedule_rho = method.schedule_type == ScheduleKind::kPolynomial ? 7 : 1;
  }
  if (!at_rho.empty()) method.schedule_rho = to_number<double>(at_rho, "rho", whole);
  const int per_step = info_of(*method.solver).evaluations;
  const bool odd = per_step == 2 && nfe % 2 == 1;
  method.afs = mean ? Afs::kMean : odd ? Afs::kAnalytical : Afs::kNo;
  EPD_REQUIRE_USAGE(!mean || per_step == 1 || odd, "nfe: ", whole, " takes an odd number of evaluations, got ", nfe);
  method.num_steps = (nfe + (*method.afs == Afs::kNo ? 0 : 1)) / per_step + 1;
  EPD_REQUIRE_USAGE(nfe >= 1 && *method.num_steps >= 2, "nfe: ", solver, " cannot run with ", nfe, " evaluations");
  contender.name = solver;
  if (!at_order.empty()) method.max_order = to_number<int>(at_order, "order", whole);
  const int order = method.max_order.value_or(highest_order(*method.solver));
  if (order > 0) contender.name = text(solver, "(", order, ")");
  if (mean) contender.name += kMeanMark;
  return contender;
}

Contender predictor_contender(const std::string& whole) {
  std::string name = whole;
  Contender contender;
  contender.method.predictor_path = cut_before(name, '=');
  contender.name = name;
  return contender;
}

Contender plan_contender(const std::string& whole) {
  Contender contender = predictor_contender(whole);
  std::swap(contender.method.plan, contender.method.predictor_path);
  if (contender.name.empty()) contender.name = std::filesystem::path(contender.method.plan).stem().string();
  return contender;
}

Contender listed_contender(const std::string& solver, const std::string& sigmas) {
  Contender contender = read_contender(solver, /*nfe=*/4, ScheduleKind::kPolynomial);
  contender.method.num_steps.reset();
  contender.method.schedule_type.reset();
  contender.method.schedule_rho.reset();
  contender.method.sigmas = sigmas;
  contender.name += text(" on ", std::filesystem::path(sigmas).stem().string());
  return contender;
}

std::vector<Contender> zoo_contenders(const ModelFacts& facts) {
  namespace fs = std::filesystem;
  const fs::path exp = project_dir() / "exp";
  std::vector<fs::path> files;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(exp, absent)) {
    if (fs::exists(entry.path() / "training_options.json") && fs::exists(entry.path() / "predictor.json")) {
      files.push_back(entry.path() / "predictor.json");
    }
  }
  if (fs::exists(exp / "zoo")) {
    for (const auto& entry : fs::recursive_directory_iterator(exp / "zoo")) {
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  std::vector<Contender> contenders;
  for (const auto& file : files) {
    const auto spec = read_predictor(file);
    const bool fits = spec.dataset_name == facts.dataset_name && spec.resolution == facts.resolution &&
                      spec.channels == facts.channels && spec.label_dim == facts.label_dim;
    if (!fits) continue;
    const auto folder = file.parent_path().filename().string();
    const bool is_run = file.filename() == "predictor.json";
    const bool numbered = is_run && folder.find_first_not_of("0123456789") == 5;
    auto name = numbered ? text(name_of(kStudentNames, spec.kind()), " ", std::stoi(folder))
                : is_run ? folder
                         : text(folder, "/", file.stem().string());
    contenders.push_back({std::move(name), {.predictor_path = file.string()}});
  }
  EPD_REQUIRE(!contenders.empty(), "zoo: no shipped predictor was made for ", facts.dataset_name);
  return contenders;
}

std::string reference_name(std::string solver, int nfe) {
  const std::string option = solver.substr(0, solver.find('('));
  for (const auto& info : kSolvers) {
    if (option == info.name) solver.replace(0, option.size(), info.paper_name);
  }
  std::ranges::replace(solver, '(', '-');
  std::erase(solver, ')');
  return text("reference (", solver, ", ", nfe, " NFE)");
}

std::string schedule_text(const Method& method) {
  if (method.predictor && method.predictor->spec.plan()) return "learned";
  if (!method.plan_sha256.empty()) return "plan";
  if (method.has_own_times) return "listed";
  const char* name = name_of(kScheduleNames, method.schedule.kind);
  const bool plain = method.schedule.kind == ScheduleKind::kLogSnr || method.schedule.rho == 1;
  return plain ? std::string(name) : text(name, " ", method.schedule.rho);
}

}  // namespace epd
