#include "epd/documents/plan_json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "epd/files/atomic_file.h"

namespace epd {
namespace {

constexpr const char* kFormat = "epd-plan";
constexpr int kVersion = 1, kMaxPoints = 64, kMaxRegisters = 1 << 20;
constexpr std::uint64_t kMaxBytes = std::uint64_t{16} << 20;
constexpr double kMaxTold = 2;  // a learned plan may tell a flow network of a little more noise than there is

Json json_of(const Combine<double>& combine) {
  std::vector<int> registers;
  std::vector<double> coefficients;
  for (const auto& term : combine.sum.terms()) {
    registers.push_back(term.source);
    coefficients.push_back(term.coefficient);
  }
  return {{"combine", combine.target}, {"registers", registers}, {"coefficients", coefficients}};
}

Json json_of(const Evaluate<double>& evaluate) {
  return {{"evaluate", evaluate.denoised}, {"states", evaluate.states}, {"sigmas", evaluate.sigmas}};
}

Json json_of(const Draw& noise) { return {{"noise", noise.target}}; }

Json json_of(const PlanStep& step) {
  return {{"t_cur", step.t.cur},
          {"t_next", step.t.next},
          {"afs", step.analytical},
          {"first", step.first},
          {"last", step.last}};
}

/// The noise level of every grid point. All intervals of a plan have the same number of steps.
std::vector<double> grid_times(const Plan<double>& plan) {
  std::vector<double> times;
  const std::size_t intervals = plan.grid.size() - 1;
  if (intervals == 0) return times;
  const std::size_t steps_each = plan.steps.size() / intervals;
  times.push_back(plan.steps.front().t.cur);
  for (std::size_t n = 1; n <= intervals; ++n) times.push_back(plan.steps[n * steps_each - 1].t.next);
  return times;
}

/// The instructions of a file, checked one by one as they are read.
class PlanReader {
 public:
  explicit PlanReader(JsonReader json) : json_(std::move(json)) {}

  PlanFile read(std::string_view content) {
    read_header();
    read_instructions();
    read_grid();
    read_steps();
    check_counts();
    json_.check_seal(content);
    json_.finish();
    return {clock_, std::move(solver_), TimeSteps(times_, TimeSteps::Last::kMayBeZero), std::move(plan_)};
  }

 private:
  static constexpr std::int64_t kUnwritten = -2, kFromTheStart = -1;  // in written_, else the instruction

  void read_header() {
    if (const auto format = json_.string("format"); format != kFormat) {
      json_.fail("format", text("expected ", kFormat, ", found '", shown(format), "': not a plan"));
    }
    if (const auto version = json_.integer("version", 0, INT64_MAX); version != kVersion) {
      json_.fail("version", text("this program reads version ", kVersion, ", found ", version));
    }
    clock_ = value_of(kClockNames, json_.string("clock"), "clock");
    if (json_.has("solver")) solver_ = valid_utf8(json_.string("solver"));
    if (json_.has("source")) {
      auto source = json_.object("source");
      for (const auto& name : source.fields()) source.string(name);
    }
    plan_.num_registers = static_cast<int>(json_.integer("num_registers", 1, kMaxRegisters));
    written_.assign(static_cast<std::size_t>(plan_.num_registers), kUnwritten);
    written_[0] = kFromTheStart;
    if (json_.has("mean")) {
      plan_.mean = static_cast<Register>(json_.integer("mean", 1, plan_.num_registers - 1));
      written_[*plan_.mean] = kFromTheStart;
    }
  }

  void read_instructions() {
    for (JsonReader& one : json_.objects("instructions")) {
      if (one.has("combine")) {
        read_combine(one);
      } else if (one.has("evaluate")) {
        read_evaluate(one);
      } else if (one.has("noise")) {
        read_noise(one);
      } else {
        throw Error(text(one.where(), ": expected combine, evaluate or noise"));
      }
      one.finish();
    }
    const auto missing = std::ranges::find(written_, kUnwritten);
    if (missing != written_.end()) {
      json_.fail("num_registers", text("no instruction fills register ", missing - written_.begin()));
    }
  }

  void read_combine(JsonReader& one) {
    const auto target = one.integer("combine", 0, plan_.num_registers - 1);
    const auto sources = registers(one, "registers");
    const auto coefficients = one.numbers("coefficients", sources.size());
    if (sources.empty()) one.fail("registers", "empty");
    std::vector<Expression<double>::Term> terms;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      require_written(one, "registers", sources[i]);
      terms.push_back({sources[i], coefficients[i]});
    }
    write(one, "combine", static_cast<Register>(target));
    plan_.instructions.push_back(Combine<double>{static_cast<Register>(target), Expression<double>(std::move(terms))});
  }

  void read_evaluate(JsonReader& one) {
    Evaluate<double> evaluate;
    evaluate.denoised = registers(one, "evaluate");
    evaluate.states = registers(one, "states");
    const std::size_t size = evaluate.states.size();
    if (size < 1 || size > kMaxPoints) one.fail("states", text("expected 1 to ", kMaxPoints, " points, found ", size));
    if (evaluate.denoised.size() != size) {
      one.fail("evaluate", text("expected ", size, " registers, as many as states, found ", evaluate.denoised.size()));
    }
    evaluate.sigmas = one.numbers("sigmas", size);
    for (const double sigma : evaluate.sigmas) require_level(one, "sigmas", sigma, sigma > 0, kMaxTold);
    for (const Register r : evaluate.states) require_written(one, "states", r);
    for (const Register r : evaluate.denoised) write(one, "evaluate", r);
    plan_.instructions.push_back(std::move(evaluate));
  }

  void read_noise(JsonReader& one) {
    const auto target = static_cast<Register>(one.integer("noise", 0, plan_.num_registers - 1));
    write(one, "noise", target);
    plan_.instructions.push_back(Draw{target});
  }

  void read_grid() {
    times_ = json_.numbers("times");
    plan_.grid = registers(json_, "grid");
    if (times_.size() < 2 || times_.size() != plan_.grid.size()) {
      json_.fail("grid", text("expected a register for each of at least 2 times, found ", plan_.grid.size(),
                              " registers and ", times_.size(), " times"));
    }
    for (std::size_t n = 0; n < times_.size(); ++n) {
      const bool last = n + 1 == times_.size();
      require_level(json_, "times", times_[n], times_[n] > 0 || (last && times_[n] == 0), 1);
      if (n > 0 && times_[n] >= times_[n - 1]) json_.fail("times", text(times_[n], " is not below ", times_[n - 1]));
      if (n == 0 ? plan_.grid[0] != 0 : written_[plan_.grid[n]] <= written_[plan_.grid[n - 1]]) {
        json_.fail("grid", n == 0
                               ? std::string("must begin with register 0")
                               : text("register ", plan_.grid[n], " is not filled after register ", plan_.grid[n - 1]));
      }
    }
  }

  /// What is absent follows from the grid: the instructions up to a grid point are a step.
  void read_steps() {
    const std::size_t intervals = times_.size() - 1;
    if (!json_.has("steps")) {
      for (std::size_t n = 0; n < intervals; ++n) {
        const bool last = n + 1 == intervals;
        const auto end = last ? plan_.instructions.size() : static_cast<std::size_t>(written_[plan_.grid[n + 1]]) + 1;
        plan_.steps.push_back({{times_[n], times_[n + 1]}, false, n > 0 ? plan_.steps.back().last : 0, end});
      }
      return;
    }
    const auto count = static_cast<std::int64_t>(plan_.instructions.size());
    for (JsonReader& one : json_.objects("steps")) {
      const auto first = plan_.steps.empty() ? 0 : static_cast<std::int64_t>(plan_.steps.back().last);
      PlanStep step{{one.number("t_cur"), one.number("t_next")}, one.boolean("afs")};
      step.first = static_cast<std::size_t>(one.integer("first", first, first));
      step.last = static_cast<std::size_t>(one.integer("last", first, count));
      one.finish();
      plan_.steps.push_back(step);
    }
    const std::size_t each = plan_.steps.size() / intervals;
    bool fits = each > 0 && plan_.steps.size() == each * intervals && plan_.steps.front().t.cur == times_[0] &&
                plan_.steps.back().last == plan_.instructions.size();
    for (std::size_t n = 1; fits && n <= intervals; ++n) fits = plan_.steps[n * each - 1].t.next == times_[n];
    if (!fits) json_.fail("steps", "they do not lead from time to time over all instructions");
  }

  void check_counts() {
    const auto factor = json_.has("cost_factor") ? json_.integer("cost_factor", 1, 2) : 1;
    const auto check = [&](const char* name, std::int64_t counted) {
      const auto said = json_.integer(name, 0, INT64_MAX);
      if (said != counted) json_.fail(name, text("says ", said, ", and the instructions take ", counted));
    };
    check("nfe", plan_.nfe() * factor);
    check("evaluations", plan_.evaluations() * factor);
  }

  std::vector<Register> registers(JsonReader& json, const std::string& field) const {
    std::vector<Register> result;
    for (const double number : json.numbers(field)) {
      if (!(number >= 0 && number < plan_.num_registers && number == std::floor(number))) {
        json.fail(field, text(number, " is not a register; there are 0 to ", plan_.num_registers - 1));
      }
      result.push_back(static_cast<Register>(number));
    }
    return result;
  }

  void require_written(const JsonReader& json, const char* field, Register r) const {
    if (written_[r] == kUnwritten) json.fail(field, text("register ", r, " is read before it is filled"));
  }

  void write(const JsonReader& json, const char* field, Register r) {
    if (written_[r] != kUnwritten) json.fail(field, text("register ", r, " is filled already"));
    written_[r] = static_cast<std::int64_t>(plan_.instructions.size());
  }

  /// `most`: of a flow's levels.
  void require_level(const JsonReader& json, const char* field, double level, bool positive, double most) const {
    if (!positive) json.fail(field, text("expected positive noise levels, found ", level));
    if (clock_ == Clock::kFlow && level > most) {
      json.fail(field, text("expected at most ", most, " in clock flow, found ", level));
    }
  }

  JsonReader json_;
  Clock clock_ = Clock::kEdm;
  std::string solver_;
  std::vector<double> times_;
  Plan<double> plan_;
  std::vector<std::int64_t> written_;  // by register: which instruction fills it
};

}  // namespace

std::string plan_json(const Plan<double>& plan, std::string_view solver, int cost_factor, Clock clock,
                      const Json& source) {
  Json steps = Json::array(), instructions = Json::array();
  for (const auto& step : plan.steps) steps.push_back(json_of(step));
  for (const auto& instruction : plan.instructions) {
    instructions.push_back(std::visit([](const auto& one) { return json_of(one); }, instruction));
  }
  Json json{{"format", kFormat}, {"version", kVersion}, {"clock", name_of(kClockNames, clock)}, {"solver", solver}};
  if (!source.empty()) json["source"] = source;
  json.update({{"nfe", plan.nfe() * cost_factor},
               {"evaluations", plan.evaluations() * cost_factor},
               {"cost_factor", cost_factor},
               {"num_registers", plan.num_registers}});
  if (plan.mean) json["mean"] = *plan.mean;
  json.update({{"times", grid_times(plan)}, {"grid", plan.grid}, {"steps", steps}, {"instructions", instructions}});
  return sealed(json_text(json) + "\n");
}

PlanFile parse_plan(std::string_view content, const std::string& where) {
  try {
    return PlanReader(JsonReader::parse(content, where)).read(content);
  } catch (const Error& error) {
    // What a file holds is no wrong usage, and its name must stand in the message.
    const std::string message = error.what();
    throw Error(message.starts_with(where) ? message : text(where, ": ", message));
  }
}

bool is_plan_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::is_regular_file(path, error) ? std::filesystem::file_size(path, error) : 0;
  return size > 0 && size <= kMaxBytes && read_file(path, kMaxBytes).find(text('"', kFormat, '"')) != std::string::npos;
}

PlanFile read_plan_file(const std::filesystem::path& path) {
  return parse_plan(read_file(path, kMaxBytes), path.string());
}

}  // namespace epd
