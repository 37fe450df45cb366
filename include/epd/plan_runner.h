#pragma once

// Runs plan files in any C++17 program; made to be copied. It needs nothing but the standard library.
//
//   const auto plan = epd_plan::read("plan.json");           // sample --solver unipc --explain --json > plan.json
//   std::vector<float> image = epd_plan::run(plan, noise, denoise);
//
// `noise` is unit Gaussian noise and `denoise` the network: D(x; level) of x = x_0 + level e (clock edm), or of
// x = (1 - level) x_0 + level e, where it is x - level v(x; level) for a network that predicts velocities (clock flow).

#include <cmath>
#include <cstddef>
#include <fstream>
#include <functional>
#include <locale>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace epd_plan {

/// Weighted sum: r[targets[0]] = sum_i numbers[i] r[inputs[i]].
/// Evaluation:   r[targets[k]] = D(r[inputs[k]]; numbers[k]) for all k at once, the parallel points of a solver's step.
/// Noise:        r[targets[0]] = unit Gaussian noise.
struct Instruction {
  enum Kind { kSum, kEvaluation, kNoise } kind;
  std::vector<std::size_t> targets, inputs;
  std::vector<double> numbers;
};

struct Plan {
  bool flow = false;  // the clock
  double t_0 = 0;     // the level of the start, r[0] = t_0 noise
  std::size_t num_registers = 1, result = 0;
  std::size_t mean = 0;  // the register of the data's mean, where it is not 0
  std::vector<Instruction> instructions;
};

/// denoised = D of `count` states of `size` floats each, one behind the other, at `levels[0 .. count)`.
using Denoise = std::function<void(const float* states, const double* levels, std::size_t count, std::size_t size,
                                   float* denoised)>;

/// Fills `noise` with unit Gaussian noise, other in every call.
using Draw = std::function<void(float* noise, std::size_t size)>;

/// The image that the plan makes of the noise. `mean` is the mean of the data, for a plan that begins with it; `draw`
/// gives further noise, for a plan of an SDE.
inline std::vector<float> run(const Plan& plan, const std::vector<float>& noise, const Denoise& denoise,
                              const std::vector<float>& mean = {}, const Draw& draw = nullptr) {
  const std::size_t size = noise.size();
  std::vector<std::vector<float>> r(plan.num_registers);
  for (const float e : noise) r[0].push_back(static_cast<float>(plan.t_0 * e));
  if (plan.mean != 0) r[plan.mean] = mean;
  if (plan.mean != 0 && mean.size() != size) throw std::runtime_error("plan: it begins with the mean of the data");
  for (const Instruction& step : plan.instructions) {
    if (step.kind == Instruction::kNoise) {
      if (!draw) throw std::runtime_error("plan: it draws noise, and was given none");
      r[step.targets[0]].resize(size);
      draw(r[step.targets[0]].data(), size);
      continue;
    }
    if (step.kind == Instruction::kEvaluation) {
      std::vector<float> states, images(step.inputs.size() * size);
      for (const std::size_t input : step.inputs) states.insert(states.end(), r[input].begin(), r[input].end());
      denoise(states.data(), step.numbers.data(), step.inputs.size(), size, images.data());
      auto image = images.begin();
      for (const std::size_t target : step.targets) r[target].assign(image, image + size), image += size;
      continue;
    }
    std::vector<double> sum(size);
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      for (std::size_t j = 0; j < size; ++j) sum[j] += step.numbers[i] * r[step.inputs[i]][j];
    }
    r[step.targets[0]].assign(sum.begin(), sum.end());
  }
  return r[plan.result];
}

namespace detail {

/// A JSON value. Numbers, lists and objects are all that a plan is read from; `text` holds strings and words.
struct Json {
  char kind = 0;  // the first character: { [ " or that of a number or word
  double number = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> fields;

  const Json& operator[](const char* name) const {
    const auto found = fields.find(name);
    if (found == fields.end()) throw std::runtime_error(std::string("plan: no field ") + name);
    return found->second;
  }
  double as_number() const {
    if (kind != '-' && (kind < '0' || kind > '9')) throw std::runtime_error("plan: expected a number");
    return number;
  }
  std::size_t as_index(std::size_t end) const {
    const double value = as_number();
    if (!(value >= 0 && value < static_cast<double>(end)) || value != std::floor(value)) {
      throw std::runtime_error("plan: a number that is not an integer or out of range");
    }
    return static_cast<std::size_t>(value);
  }
  const std::vector<Json>& as_list() const {
    if (kind != '[') throw std::runtime_error("plan: expected a list");
    return items;
  }
};

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  Json document() {
    Json result = value(0);
    if (peek() != 0) fail();
    return result;
  }

 private:
  [[noreturn]] void fail() const { throw std::runtime_error("plan: not JSON at byte " + std::to_string(at_)); }
  char peek() {  // 0 at the end
    while (at_ < text_.size() && std::string(" \t\r\n").find(text_[at_]) != std::string::npos) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) { return peek() == c && ++at_ != 0; }
  void expect(char c) {
    if (!take(c)) fail();
  }

  Json value(int depth) {
    if (depth > 16) fail();
    Json result;
    result.kind = peek();
    if (take('{')) {
      for (bool first = true; !take('}'); first = false) {
        if (!first) expect(',');
        const std::string name = string();
        expect(':');
        if (!result.fields.emplace(name, value(depth + 1)).second) fail();
      }
    } else if (take('[')) {
      for (bool first = true; !take(']'); first = false) {
        if (!first) expect(',');
        result.items.push_back(value(depth + 1));
      }
    } else if (result.kind == '"') {
      result.text = string();
    } else {
      scalar(result);
    }
    return result;
  }

  std::string string() {  // escapes stay as they are: no field or word of a plan has one
    expect('"');
    const std::size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) at_ += text_[at_] == '\\' ? 1 : 0;
    if (at_ >= text_.size()) fail();
    return text_.substr(begin, at_++ - begin);
  }

  void scalar(Json& result) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::string(",]} \t\r\n").find(text_[at_]) == std::string::npos) ++at_;
    result.text = text_.substr(begin, at_ - begin);
    if (result.text == "true" || result.text == "false" || result.text == "null") return;
    std::istringstream digits(result.text);
    digits.imbue(std::locale::classic());
    if (!(digits >> result.number) || digits.peek() != std::char_traits<char>::eof()) fail();
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

inline void require(bool kept, const std::string& what) {
  if (!kept) throw std::runtime_error("plan: " + what);
}

}  // namespace detail

/// The plan of a file's text. Throws std::runtime_error for what is not a plan that can run.
inline Plan parse(const std::string& text) {
  using detail::require;
  const detail::Json json = detail::Parser(text).document();
  require(json["format"].text == "epd-plan" && json["version"].as_number() == 1, "not an epd-plan of version 1");
  Plan plan;
  plan.flow = json["clock"].text == "flow";
  require(plan.flow || json["clock"].text == "edm", "unknown clock " + json["clock"].text);
  const std::size_t end = plan.num_registers = json["num_registers"].as_index(1 << 20);
  std::vector<bool> filled(end + 1);
  filled[0] = true;
  if (json.fields.count("mean") != 0) filled[plan.mean = json["mean"].as_index(end)] = true;
  const auto indices = [end](const detail::Json& list) {
    std::vector<std::size_t> result;
    for (const auto& item : list.as_list()) result.push_back(item.as_index(end));
    return result;
  };
  const auto numbers = [](const detail::Json& list) {
    std::vector<double> result;
    for (const auto& item : list.as_list()) result.push_back(item.as_number());
    return result;
  };
  for (const auto& one : json["instructions"].as_list()) {
    const std::string where = "instruction " + std::to_string(plan.instructions.size());
    Instruction step{Instruction::kNoise, {}, {}, {}};
    if (one.fields.count("evaluate") != 0) {
      step = {Instruction::kEvaluation, indices(one["evaluate"]), indices(one["states"]), numbers(one["sigmas"])};
      require(step.targets.size() == step.inputs.size() && !step.inputs.empty(),
              where + ": lists of different lengths");
    } else if (one.fields.count("combine") != 0) {
      step = {
          Instruction::kSum, {one["combine"].as_index(end)}, indices(one["registers"]), numbers(one["coefficients"])};
      require(!step.inputs.empty(), where + ": a sum of nothing");
    } else {
      require(one.fields.count("noise") != 0, where + ": expected combine, evaluate or noise");
      step.targets = {one["noise"].as_index(end)};
    }
    require(step.numbers.size() == step.inputs.size(), where + ": lists of different lengths");
    for (const double level : step.kind == Instruction::kEvaluation ? step.numbers : std::vector<double>()) {
      require(level > 0 && (!plan.flow || level <= 2),
              where + ": a noise level not positive, or above 2 in clock flow");
    }
    for (const std::size_t r : step.inputs) require(filled[r], where + ": a register is read before it is filled");
    for (const std::size_t r : step.targets) {
      require(!filled[r], where + ": a register is filled twice");
      filled[r] = true;
    }
    plan.instructions.push_back(std::move(step));
  }
  require(!json["times"].as_list().empty() && !json["grid"].as_list().empty(), "no times or no grid");
  plan.t_0 = json["times"].as_list().front().as_number();
  require(plan.t_0 > 0, "the first time is not positive");
  plan.result = json["grid"].as_list().back().as_index(end);
  require(filled[plan.result], "the result is never filled");
  return plan;
}

inline Plan read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!(text << file.rdbuf())) throw std::runtime_error("plan: cannot read " + path);
  return parse(text.str());
}

}  // namespace epd_plan
