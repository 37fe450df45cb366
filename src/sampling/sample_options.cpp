#include "epd/sampling/sample_options.h"

#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/documents/model_facts_json.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

/// The dataset's name from the command line or the predictor; empty where only --model_path says what is drawn.
std::string dataset_for(const SampleOptions& o, const std::optional<NamedPredictor>& predictor) {
  if (!predictor) return o.dataset_name;
  const std::string& own = predictor->spec.dataset_name;
  EPD_REQUIRE_USAGE(o.dataset_name.empty() || o.dataset_name == own, "dataset_name: the predictor was made for ", own,
                    ", got ", o.dataset_name);
  return own;
}

void require_pixels(const SampleOptions& o, const ModelFacts& facts) {
  const int channels = facts.latent ? facts.latent->image_channels : facts.channels;
  const bool as_png = o.format == SampleFormat::kPng || o.format == SampleFormat::kZip || o.grid;
  EPD_REQUIRE_USAGE(!as_png || channels == 1 || channels == 3, "format: the images of ", facts.dataset_name, " have ",
                    channels, " channels, which no PNG holds; use --format npz or raw");
}

fs::path default_outdir(const SampleOptions& o, const std::string& dataset, const Method& method) {
  const fs::path samples = o.grid && o.format == SampleFormat::kPng ? "samples/grids" : "samples";
  return samples / dataset / method.folder_name();
}

}  // namespace

const SampleOptions& SampleOptions::validated() const {
  const auto require_positive = [](const char* option, std::int64_t value) {
    EPD_REQUIRE_USAGE(value >= 1, option, ": expected at least 1, got ", value);
  };
  EPD_REQUIRE_USAGE(!seeds.empty(), "seeds: none given");
  require_positive("batch", batch);
  EPD_REQUIRE_USAGE(writer_threads >= 1 && writer_threads <= 256, "writer_threads: expected 1 to 256, got ",
                    writer_threads);
  EPD_REQUIRE_USAGE(!scoring.no_images || scoring.wanted(), "no_images: nothing would be left to do; give --fid");
  EPD_REQUIRE_USAGE(chunk >= 0, "chunk: expected at least 1, or 0 for the default, got ", chunk);
  EPD_REQUIRE_USAGE(decode_batch >= 0, "decode_batch: expected at least 1, or 0 for the default, got ", decode_batch);
  EPD_REQUIRE_USAGE(points_at_once >= 0, "points_at_once: expected at least 1, or 0 for all, got ", points_at_once);
  return *this;
}

ResolvedSample resolve(const SampleOptions& options) {
  options.validated();
  auto predictor = find_method_predictor(options.method);
  const std::string dataset = dataset_for(options, predictor);
  const auto model_path = find_model(dataset, options.model_path);
  const auto facts = read_model_facts(model_path);
  auto condition = options.condition.resolved(facts);
  require_pixels(options, facts);
  auto method = make_method(options.method, std::move(predictor), facts);
  const std::string name = dataset.empty() ? facts.dataset_name : dataset;
  const auto outdir = options.outdir.empty() ? default_outdir(options, name, method) : options.outdir;
  return {model_path, facts, name, std::move(condition), std::move(method), outdir};
}

Method method_without_model(const SampleOptions& options) {
  auto predictor = find_method_predictor(options.method);
  const std::string dataset = dataset_for(options, predictor);
  // A predictor that names its times needs nothing of the model; `discrete` without them does, and says so.
  const bool absent = options.model_path.empty() && !fs::exists(model_location(dataset, ""));
  const auto facts =
      predictor && absent ? facts_of(predictor->spec) : read_model_facts(find_model(dataset, options.model_path));
  return make_method(options.method, std::move(predictor), facts);
}

}  // namespace epd
