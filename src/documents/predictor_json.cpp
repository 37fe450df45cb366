#include "epd/documents/predictor_json.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <system_error>
#include <vector>

#include "epd/files/atomic_file.h"
#include "epd/files/json.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "epd-predictor";
constexpr std::uint64_t kMaxBytes = std::uint64_t{16} << 20;  // the largest table has 4 * 999 * 64 numbers
constexpr std::int64_t kMaxSize = 1 << 20;                    // of a resolution or a number of labels

StudentKind read_header(JsonReader& json, PredictorSpec& spec) {
  if (const auto format = json.string("format"); format != kFormat) {
    json.fail("format", text("expected ", kFormat, ", found '", format, "': not a predictor"));
  }
  if (const auto version = json.integer("version", 0, INT64_MAX); version != PredictorSpec::kVersion) {
    json.fail("version", text("this program reads version ", PredictorSpec::kVersion, ", found ", version));
  }
  const auto kind = value_of(kStudentNames, json.string("kind"), "kind");
  spec.dataset_name = json.string("dataset_name");
  spec.resolution = static_cast<int>(json.integer("resolution", 1, kMaxSize));
  spec.channels = static_cast<int>(json.integer("channels", 1, kMaxSize));
  spec.label_dim = static_cast<int>(json.integer("label_dim", 0, kMaxSize));
  spec.num_steps = static_cast<int>(json.integer("num_steps", ScheduleOptions::kMinSteps, ScheduleOptions::kMaxSteps));
  spec.num_points = static_cast<int>(json.integer("num_points", 1, PredictorSpec::kMaxPoints));
  spec.source = json.string("source");
  return kind;
}

void read_schedule(JsonReader json, PredictorSpec& spec) {
  spec.schedule.kind = value_of(kScheduleNames, json.string("type"), "schedule: type");
  spec.schedule.rho = json.number("rho");
  spec.schedule.sigma_min = json.number("sigma_min");
  spec.schedule.sigma_max = json.number("sigma_max");
  if (!json.is_null("t_steps")) spec.t_steps = json.numbers("t_steps", static_cast<std::size_t>(spec.num_steps));
  json.finish();
}

void read_afs(JsonReader& json, PredictorSpec& spec) {
  const bool on_or_off = json.is_boolean("afs");
  spec.afs =
      on_or_off ? (json.boolean("afs") ? Afs::kAnalytical : Afs::kNo) : value_of(kAfsNames, json.string("afs"), "afs");
}

void read_guidance(JsonReader& json, PredictorSpec& spec) {
  if (!json.has("guidance_type")) json.fail("guidance_type", "missing");
  if (!json.is_null("guidance_type")) {
    spec.guidance_type = value_of(kGuidanceNames, json.string("guidance_type"), "guidance_type");
  }
  if (!json.has("guidance_rate")) json.fail("guidance_rate", "missing");
  if (!json.is_null("guidance_rate")) spec.guidance_rate = json.number("guidance_rate");
}

EpdParameters read_parameters(JsonReader& json, const PredictorSpec& spec, StudentKind kind) {
  EpdParameters parameters;
  parameters.on_ipndm = kind == StudentKind::kIpndm;
  parameters.fcn = json.boolean("fcn");
  if (!json.has("max_order")) json.fail("max_order", "missing");
  if (!json.is_null("max_order")) parameters.max_order = static_cast<int>(json.integer("max_order", 1, 4));
  parameters.scale_dir = json.number("scale_dir");
  parameters.scale_time = json.number("scale_time");
  auto groups = json.object("parameters");
  for (const char* group : PredictorSpec::kGroupNames) {
    const auto raw = groups.matrix(group, spec.num_intervals(), static_cast<std::size_t>(spec.num_points));
    parameters.raw.insert(parameters.raw.end(), raw.begin(), raw.end());
  }
  groups.finish();
  return parameters;
}

NsPoint<double> read_point(JsonReader& json) {
  NsPoint<double> point{json.number("sigma"), json.number("start"), json.numbers("weights")};
  if (json.has("noise")) point.noise = json.numbers("noise");
  json.finish();
  return point;
}

NsPlan<double> read_plan(JsonReader json, Afs afs) {
  NsPlan<double> plan{.t_0 = json.number("t_0"), .mean = afs == Afs::kMean, .stages = {}, .end = {}};
  auto& stages = plan.stages;
  for (JsonReader& point : json.objects("points")) {
    const auto count = static_cast<std::int64_t>(stages.size());
    const auto stage = point.integer("stage", std::max<std::int64_t>(count - 1, 0), count);
    if (stage == count) stages.emplace_back();
    stages.back().push_back(read_point(point));
  }
  auto end = json.object("end");
  plan.end = read_point(end);
  json.finish();
  return plan;
}

Json json_of(const NsPoint<double>& point) {
  Json json{{"sigma", point.sigma}, {"start", point.start}, {"weights", point.weights}};
  if (!point.noise.empty()) json["noise"] = point.noise;
  return json;
}

Json json_of(Afs afs) { return afs == Afs::kMean ? Json("mean") : Json(afs == Afs::kAnalytical); }

Json schedule_json(const PredictorSpec& spec) {
  Json schedule{{"type", name_of(kScheduleNames, spec.schedule.kind)},
                {"rho", spec.schedule.rho},
                {"sigma_min", spec.schedule.sigma_min},
                {"sigma_max", spec.schedule.sigma_max}};
  if (spec.t_steps) schedule["t_steps"] = *spec.t_steps;
  return schedule;
}

Json parameters_json(const PredictorSpec& spec) {
  auto parameters = Json::object();
  auto next = spec.parameters().raw.begin();
  for (const char* group : PredictorSpec::kGroupNames) {
    auto& steps = parameters[group] = Json::array();
    for (std::size_t n = 0; n < spec.num_intervals(); ++n) {
      steps.push_back(std::vector<double>(next, next + spec.num_points));
      next += spec.num_points;
    }
  }
  return parameters;
}

}  // namespace

PredictorSpec parse_predictor(std::string_view content, const std::string& where) {
  auto json = JsonReader::parse(content, where);
  PredictorSpec spec;
  try {
    const auto kind = read_header(json, spec);
    read_schedule(json.object("schedule"), spec);
    read_afs(json, spec);
    read_guidance(json, spec);
    if (kind == StudentKind::kNs) {
      spec.learned = read_plan(json.object("plan"), spec.afs);
    } else {
      spec.learned = read_parameters(json, spec, kind);
    }
    json.check_seal(content);
    json.finish();
    spec.validated();
  } catch (const Error& error) {
    // What a file holds is no wrong usage; and what validated() found has no file name yet.
    const std::string message = error.what();
    throw Error(message.starts_with(where) ? message : text(where, ": ", message));
  }
  return spec;
}

PredictorSpec read_predictor(const fs::path& path) {
  EPD_REQUIRE(path.extension() != ".pkl", path.string(), ": a pickle of the original code; ./launch.sh import ",
              path.string(), " converts it");
  return parse_predictor(read_file(path, kMaxBytes), path.string());
}

std::string predictor_text(const PredictorSpec& spec) {
  spec.validated();
  Json json{{"format", kFormat},
            {"version", PredictorSpec::kVersion},
            {"kind", name_of(kStudentNames, spec.kind())},
            {"dataset_name", spec.dataset_name},
            {"resolution", spec.resolution},
            {"channels", spec.channels},
            {"label_dim", spec.label_dim},
            {"num_steps", spec.num_steps},
            {"num_points", spec.num_points},
            {"schedule", schedule_json(spec)},
            {"afs", json_of(spec.afs)}};
  const auto* plan = spec.plan();
  if (!plan) {
    const auto& p = spec.parameters();
    json.update({{"max_order", json_or_null(p.max_order)},
                 {"scale_dir", p.scale_dir},
                 {"scale_time", p.scale_time},
                 {"fcn", p.fcn}});
  }
  const bool guided = spec.guidance_type != GuidanceKind::kNone;
  json["guidance_type"] = guided ? Json(name_of(kGuidanceNames, spec.guidance_type)) : Json();
  json["guidance_rate"] = json_or_null(spec.guidance_rate);
  json[plan ? "plan" : "parameters"] = plan ? json_of(*plan) : parameters_json(spec);
  json["source"] = spec.source;
  return json_text(json) + "\n";
}

Json json_of(const NsPlan<double>& plan) {
  auto points = Json::array();
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    for (const auto& point : plan.stages[s]) {
      points.push_back({{"stage", s}});
      points.back().update(json_of(point));
    }
  }
  return {{"t_0", plan.t_0}, {"points", points}, {"end", json_of(plan.end)}};
}

}  // namespace epd
