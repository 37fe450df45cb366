#include <iostream>
#include <memory>

#include "epd/core/allocator.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/core/run_main.h"
#include "epd/documents/plan_json.h"
#include "epd/files/json_writer.h"
#include "epd/sampling/run_sample.h"
#include "epd/solver/explain.h"
#include "sample_flags.h"

namespace {

using namespace epd;

void explain(const SampleOptions& options, bool as_json) {
  const auto method = method_without_model(options);
  const int cost = guidance_cost(method.guidance.kind);
  if (as_json) {
    std::cout << plan_json(method.plan, method.solver, cost) << "\n";
  } else {
    std::cout << method.description() << "\n" << explain_table(method.plan, cost);
  }
}

JsonObject to_json(const SampleSummary& done) {
  JsonObject json;
  json.add("outdir", done.outdir.string()).add("images", done.images).add("made", done.made);
  json.add("seconds", done.seconds);
  json.add("images_per_second", done.seconds > 0 ? static_cast<double>(done.made) / done.seconds : 0.0);
  json.add("nfe", done.nfe).add("evaluations", done.evaluations);
  if (done.scores) json.add("scores", done.score_record);
  return json;
}

/// The folder on stdout, and as the last line the score where one was asked for; or all of it as JSON.
void report(const SampleSummary& done, bool as_json) {
  log::info(done.made, " images drawn", done.made < done.images ? " (the others were there)" : "", " in ",
            duration_text(done.seconds));
  if (as_json) {
    std::cout << to_json(done).pretty() << "\n";
    return;
  }
  if (!done.outdir.empty()) std::cout << done.outdir.string() << "\n";
  if (done.scores) std::cout << text(done.scores->headline()) << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  const auto app = cli::make_app("sample", "Draw images with a distilled EPD solver, or with a classical one");
  cli::SampleFlags flags;
  cli::add_flags(*app, flags);
  return run_main([&] {
    if (!cli::parse(*app, argc, argv)) return;
    cli::apply(flags.common);
    if (flags.explain) return cli::on_root([&] { explain(cli::read_options(*app, flags), flags.json); });
    const auto group = cli::join_job(flags.common);
    group->run([&] {
      const auto device = cli::choose_device(flags.common, group->local_rank());
      const auto done = run_sample(cli::read_options(*app, flags), *group, device);
      if (group->is_root()) report(done, flags.json);
    });
  });
}
