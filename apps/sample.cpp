#include <filesystem>
#include <iostream>
#include <memory>

#include "cli.h"
#include "epd/assets/paths.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/memory.h"
#include "epd/distributed/environment.h"
#include "epd/documents/plan_json.h"
#include "epd/files/json.h"
#include "epd/sampling/run_sample.h"
#include "epd/solver/explain.h"

namespace {

using namespace epd;

/// Where a plan comes from, for its file.
Json source_of(const Method& method) {
  Json source{{"description", method.description()}, {"written_by", text("epd ", version())}};
  if (const auto& predictor = method.predictor) {
    source.update({{"dataset_name", predictor->spec.dataset_name},
                   {"predictor", predictor->spec.source},
                   {"predictor_sha256", predictor->sha256}});
  }
  if (!method.plan_sha256.empty()) source["plan_sha256"] = method.plan_sha256;
  return source;
}

void explain(const SampleOptions& options, at::Device device) {
  const auto method = method_without_model(options);
  const int cost = guidance_cost(method.guidance.kind);
  if (options.json) {
    std::cout << plan_json(method.plan, method.solver, cost, method.clock, source_of(method));
    return;
  }
  std::cout << method.description() << "\n" << explain_table(method.plan, cost);
  const auto dataset = method.predictor ? method.predictor->spec.dataset_name : options.dataset_name;
  const bool nameless = dataset.empty() && options.model_path.empty();
  if (nameless || !std::filesystem::exists(model_location(dataset, options.model_path))) return;
  const auto need = [&] { return sample_memory(options, resolve(options), device, rank_environment().size); };
  std::cout << text_or_why(need) << "\n";
}

Json json_of(const SampleSummary& done) {
  Json json{{"outdir", done.outdir.string()},
            {"images", done.images},
            {"made", done.made},
            {"seconds", done.seconds},
            {"images_per_second", done.seconds > 0 ? static_cast<double>(done.made) / done.seconds : 0.0},
            {"nfe", done.nfe},
            {"evaluations", done.evaluations}};
  if (done.bad > 0) json["bad"] = done.bad;
  if (done.scores) json["scores"] = done.score_record;
  return json;
}

/// The folder on stdout, and as the last line the score where one was asked for; or all of it as JSON.
void report(const SampleSummary& done, bool as_json) {
  log::info(done.made, " images drawn", done.made + done.bad < done.images ? " (the others existed)" : "",
            done.bad > 0 ? text(", ", done.bad, " left out") : "", " in ", duration_text(done.seconds));
  if (as_json) {
    std::cout << json_text(json_of(done)) << "\n";
    return;
  }
  if (!done.outdir.empty()) std::cout << done.outdir.string() << "\n";
  if (done.scores) std::cout << text(done.scores->headline()) << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  SampleOptions options;
  options.seeds = parse_seeds("0-63");
  cli::Common common;
  cli::Program program{"sample",
                       "Draw images with a distilled EPD solver, or with a classical one",
                       {{"", "", options_of(options).add(cli::options_of(common))}}};
  return run_main([&] {
    if (!program.parse(argc, argv)) return;
    cli::apply(common);
    if (options.explain) return cli::on_root([&] { explain(options.validated(), cli::planned_device(common)); });
    cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) {
      const auto done = run_sample(options.validated(), group, device);
      if (group.is_root()) report(done, options.json);
    });
  });
}
