#include "epd/evaluation/compare.h"

#include <filesystem>
#include <iostream>

#include "cli.h"
#include "epd/core/run_main.h"
#include "epd/files/atomic_file.h"
#include "epd/images/png.h"

namespace {

using namespace epd;

void write_results(const Comparison& comparison, const CompareOptions& options) {
  const auto& outdir = options.outdir;
  std::filesystem::create_directories(outdir);
  const auto table = comparison_table(comparison.rows);
  write_file(outdir / "results.json", comparison_json(comparison.rows));
  write_file(outdir / "results.md", table);
  write_file(outdir / "compare.svg", comparison_chart(comparison.rows));
  write_file(outdir / "compare.png", encode_png(comparison_image(comparison, options.picture_rows)));
  std::cout << table << outdir.string() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  CompareOptions options;
  options.seeds = parse_seeds("0-511");
  options.schedules = {ScheduleKind::kTimeUniform, ScheduleKind::kPolynomial, ScheduleKind::kLogSnr};
  cli::Common common;
  cli::Program program{"compare",
                       "Compare solvers and predictors on one model: quality against evaluations",
                       {{"", "", options_of(options).add(cli::options_of(common))}}};
  return run_main([&] {
    if (!program.parse(argc, argv)) return;
    cli::apply(common);
    const auto group = cli::join_job(common);
    group->run([&] {
      const auto device = cli::choose_device(common, group->local_rank());
      const auto comparison = compare(options.validated(), *group, device);
      if (group->is_root()) write_results(comparison, options);
    });
  });
}
