#include "epd/documents/model_facts_json.h"

#include <algorithm>
#include <cstdint>

#include "epd/core/error.h"
#include "epd/core/names.h"
#include "epd/files/json.h"
#include "epd/files/zip.h"
#include "epd/schedule/schedule.h"

namespace epd {
namespace {

constexpr std::int64_t kMaxSize = 1 << 20;                   // of a resolution, a number of channels, labels or tokens
constexpr std::uint64_t kMaxBytes = std::uint64_t{4} << 20;  // a noise table of 1000 entries takes 20 kB
constexpr std::string_view kEntry = "/extra/facts.json";

constexpr NameTable<ConditionKind, 3> kConditionNames{
    {{"none", ConditionKind::kNone}, {"label", ConditionKind::kLabel}, {"text", ConditionKind::kText}}};
constexpr NameTable<LabelFormat, 2> kLabelFormatNames{
    {{"onehot", LabelFormat::kOneHot}, {"index", LabelFormat::kIndex}}};
/// What a network can prefer; "auto" and "tf32" are choices of the user.
constexpr NameTable<Precision, 3> kNetworkPrecisions{
    {{"float32", Precision::kFloat32}, {"float16", Precision::kFloat16}, {"bfloat16", Precision::kBFloat16}}};

int size_field(JsonReader& json, const std::string& field, std::int64_t low = 1) {
  return static_cast<int>(json.integer(field, low, kMaxSize));
}

void read_version(JsonReader& json) {
  const auto version = json.integer("contract_version", 0, INT64_MAX);
  if (version != ModelFacts::kContractVersion) {
    json.fail("contract_version", text("this program reads version ", ModelFacts::kContractVersion, ", found ", version,
                                       "; export the model again"));
  }
}

/// A field that is null or an object, and not absent.
bool is_given(JsonReader& json, const std::string& field) {
  if (!json.has(field)) json.fail(field, "missing");
  return !json.is_null(field);
}

Noise read_noise(JsonReader json) {
  Noise noise;
  const auto kind = json.string("kind");
  if (kind == "vp") {
    noise = VpNoise{json.number("beta_d"), json.number("beta_min")};
  } else if (kind == "table") {
    noise = TableNoise{json.numbers("alphas_cumprod")};
  } else if (kind == "flow") {
    FlowNoise flow;
    if (json.has("shift")) flow.shift = json.number("shift");
    if (!(flow.shift > 0)) json.fail("shift", text("expected a positive number, found ", flow.shift));
    noise = flow;
  } else {
    json.fail("kind", text("expected vp or table, got '", kind, "'; flow for flow models"));
  }
  json.finish();
  make_sigma_map(noise);  // throws for a table that does not fall
  return noise;
}

LatentFacts read_latent(JsonReader json) {
  const LatentFacts latent{size_field(json, "image_resolution"), size_field(json, "image_channels")};
  json.finish();
  return latent;
}

TextFacts read_text(JsonReader json) {
  TextFacts facts{size_field(json, "tokens"), size_field(json, "width")};
  if (json.has("rows")) facts.rows = size_field(json, "rows");
  const auto unconditional = json.has("unconditional") ? json.string("unconditional") : "empty";
  facts.zeros_unconditional = unconditional == "zeros";
  if (!facts.zeros_unconditional && unconditional != "empty") {
    json.fail("unconditional", text("expected empty or zeros, got '", shown(unconditional), "'"));
  }
  json.finish();
  return facts;
}

void read_condition(JsonReader& json, ModelFacts& facts) {
  facts.condition = value_of(kConditionNames, json.string("condition"), "condition");
  if (facts.condition == ConditionKind::kLabel) {
    facts.label_format = value_of(kLabelFormatNames, json.string("label_format"), "label_format");
  } else {
    json.is_null("label_format");  // it says nothing here, and may stand
  }
  if (is_given(json, "text")) facts.text = read_text(json.object("text"));
  facts.classifier = json.boolean("classifier");
  const bool labelled = facts.condition == ConditionKind::kLabel || facts.classifier;
  if (labelled && facts.label_dim == 0) json.fail("label_dim", "is 0, and the model takes labels");
  if (facts.condition == ConditionKind::kText && !facts.text) json.fail("text", "is null, and the model takes text");
}

/// Facts of larger models, each of which may be absent.
void read_abilities(JsonReader& json, ModelFacts& facts) {
  if (json.has("guided_channels")) {
    facts.guided_channels = static_cast<int>(json.integer("guided_channels", 1, facts.channels));
  }
  if (json.has("guide")) facts.guide = json.boolean("guide");
  if (!json.has("sizes")) return;
  auto sizes = json.object("sizes");
  facts.size_multiple = size_field(sizes, "multiple");
  if (facts.resolution % facts.size_multiple != 0) {
    sizes.fail("multiple", text(facts.size_multiple, " does not divide the resolution ", facts.resolution));
  }
  sizes.finish();
}

ModelFacts read_fields(JsonReader& json) {
  read_version(json);
  ModelFacts facts;
  facts.dataset_name = json.string("dataset_name");
  facts.resolution = size_field(json, "resolution");
  facts.channels = size_field(json, "channels");
  facts.label_dim = size_field(json, "label_dim", 0);
  facts.sigma_min = json.number("sigma_min");
  facts.sigma_max = json.number("sigma_max");
  ScheduleOptions range;
  range.sigma_min = facts.sigma_min;
  range.sigma_max = facts.sigma_max;
  range.validated();
  read_condition(json, facts);
  facts.precision = value_of(kNetworkPrecisions, json.string("precision"), "precision");
  facts.clamp = json.boolean("clamp");
  if (is_given(json, "noise")) facts.noise = read_noise(json.object("noise"));
  if (clock_of(facts.noise) == Clock::kFlow && facts.sigma_max > 1) {
    json.fail("sigma_max", text("expected at most 1, the pure noise of a flow, found ", facts.sigma_max));
  }
  if (is_given(json, "latent")) facts.latent = read_latent(json.object("latent"));
  read_abilities(json, facts);
  auto source = json.object("source");
  for (const auto& name : source.fields()) facts.source[name] = source.string(name);
  json.finish();
  return facts;
}

void choose_size(ModelFacts& facts, ImageSize size) {
  const auto in_state = [&](int pixels, const char* option) {
    const int scale = facts.latent ? std::max(1, facts.latent->image_resolution / facts.resolution) : 1;
    const int own = facts.resolution * scale, step = facts.size_multiple * scale;
    if (pixels == 0 || pixels == own) return 0;
    EPD_REQUIRE_USAGE(step > 0, option, ": the model of ", facts.dataset_name, " makes images of ", own,
                      " pixels alone, got ", pixels);
    EPD_REQUIRE_USAGE(pixels > 0 && pixels % step == 0 && pixels / scale <= kMaxSize, option, ": the model of ",
                      facts.dataset_name, " takes multiples of ", step, " pixels, got ", pixels);
    return pixels / scale;
  };
  facts.width = in_state(size.width, "width");
  facts.height = in_state(size.height, "height");
}

Json json_of(const Noise& noise) {
  if (const auto* vp = std::get_if<VpNoise>(&noise)) {
    return {{"kind", "vp"}, {"beta_d", vp->beta_d}, {"beta_min", vp->beta_min}};
  }
  if (const auto* flow = std::get_if<FlowNoise>(&noise)) return {{"kind", "flow"}, {"shift", flow->shift}};
  const auto* table = std::get_if<TableNoise>(&noise);
  return table != nullptr ? Json{{"kind", "table"}, {"alphas_cumprod", table->alphas_cumprod}} : Json();
}

}  // namespace

ModelFacts parse_model_facts(std::string_view content, const std::string& where) {
  auto json = JsonReader::parse(content, where);
  try {
    return read_fields(json);
  } catch (const Error& error) {
    // What a file holds is no wrong usage, and its name must stand in the message.
    const std::string message = error.what();
    throw Error(message.starts_with(where) ? message : text(where, ": ", message));
  }
}

std::string model_facts_text(const ModelFacts& facts) {
  Json json{{"contract_version", ModelFacts::kContractVersion},
            {"dataset_name", facts.dataset_name},
            {"resolution", facts.resolution},
            {"channels", facts.channels},
            {"label_dim", facts.label_dim},
            {"sigma_min", facts.sigma_min},
            {"sigma_max", facts.sigma_max},
            {"condition", name_of(kConditionNames, facts.condition)}};
  if (facts.condition == ConditionKind::kLabel) {
    json["label_format"] = name_of(kLabelFormatNames, facts.label_format);
  }
  json["precision"] = name_of(kNetworkPrecisions, facts.precision);
  json["clamp"] = facts.clamp;
  json["noise"] = json_of(facts.noise);
  auto& latent = json["latent"];
  if (facts.latent)
    latent = {{"image_resolution", facts.latent->image_resolution}, {"image_channels", facts.latent->image_channels}};
  auto& text = json["text"];
  if (facts.text) {
    text = {{"tokens", facts.text->tokens}, {"width", facts.text->width}};
    if (facts.text->rows != facts.text->tokens) text["rows"] = facts.text->rows;
    if (facts.text->zeros_unconditional) text["unconditional"] = "zeros";
  }
  json["classifier"] = facts.classifier;
  if (facts.guided_channels > 0) json["guided_channels"] = facts.guided_channels;
  if (facts.guide) json["guide"] = true;
  if (facts.size_multiple > 0) json["sizes"] = {{"multiple", facts.size_multiple}};
  json["source"] = Json::object();
  for (const auto& [name, sha256] : facts.source) json["source"][name] = sha256;
  return json_text(json) + "\n";
}

ModelFacts read_model_facts(const std::filesystem::path& path) {
  const ZipReader zip(path);
  bool torchscript = false;
  for (std::size_t i = 0; i < zip.size(); ++i) {
    const std::string& name = zip.entries()[i].name;
    const auto folder_end = name.find('/');
    if (folder_end == name.npos) continue;
    if (std::string_view(name).substr(folder_end) == kEntry) {
      return parse_model_facts(zip.read(i, kMaxBytes), path.string() + ": facts.json");
    }
    torchscript |= name.ends_with("/constants.pkl");
  }
  throw Error(text(path.string(), torchscript ? ": a TorchScript file without facts.json: not a model file; make one "
                                                "with ./launch.sh model NAME (models/README.md)"
                                              : ": not a TorchScript file"));
}

ModelFacts read_model_facts(const std::filesystem::path& path, ImageSize size) {
  auto facts = read_model_facts(path);
  choose_size(facts, size);
  return facts;
}

}  // namespace epd
