#include "epd/evaluation/compare.h"

#include <filesystem>
#include <iostream>

#include "cli.h"
#include "epd/core/allocator.h"
#include "epd/core/run_main.h"
#include "epd/core/seeds.h"
#include "epd/evaluation/chart.h"
#include "epd/evaluation/report.h"
#include "epd/files/atomic_file.h"
#include "epd/images/png.h"

namespace {

using namespace epd;

struct CompareFlags {
  cli::Common common;
  CompareOptions options;
  std::string seeds = "0-511";
  std::vector<std::string> schedules{"time_uniform", "polynomial", "logsnr"};
  std::string prompt_file;
  std::filesystem::path outdir = "samples/compare";
};

void add_flags(CLI::App& app, CompareFlags& flags) {
  auto& o = flags.options;
  app.add_option("--dataset_name", o.dataset_name, "model to draw from (demo, cifar10, ...)");
  app.add_option("--model_path", o.model_path, "denoiser.ts (unset: where the dataset's model is kept)")
      ->type_name("FILE");
  app.add_option("--predictors,--predictor_path", o.predictors,
                 "predictors: files, folders or experiment numbers; path=name names the row")
      ->delimiter(',');
  app.add_option("--solvers", o.solvers,
                 "classical solvers, as solver:order@schedule:rho; all but the solver may be left out")
      ->delimiter(',');
  app.add_option("--schedules", flags.schedules, "schedules of the solvers that name none")->delimiter(',');
  app.add_option("--nfe", o.nfe, "serial evaluations of the solvers")->delimiter(',');
  app.add_option("--extra", o.extra, "further rows, solver:order@schedule:rho#nfe")->delimiter(',');
  app.add_option("--exact", o.exact,
                 "the fine trajectory that stands for the exact ODE, solver:order@schedule:rho#nfe");
  app.add_option("--seeds", flags.seeds, "one image each: numbers and ranges (0-511)")->type_name("LIST");
  app.add_option("--batch", o.batch, "images at a time, over all processes");
  app.add_option("--chunk", o.chunk, "images in one forward of the network (0: 16 on the CPU, 64 on a GPU)");
  app.add_option("--data", o.data, "the data: pictures (folder, zip) or statistics (.npz); unset: no distance to it")
      ->type_name("FILE|DIR");
  app.add_option("--detector", o.detector, "feature network (unset: inception, for the demo its own)")
      ->type_name("NAME|FILE");
  cli::add_optional(app, "--class", o.condition.label, "one class for all images", "drawn from each seed");
  cli::add_optional(app, "--prompt", o.condition.prompt, "one text for all images", "none");
  app.add_option("--prompt_file", flags.prompt_file, "texts, number i for seed i")->type_name("FILE");
  cli::add_choice(app, "--guidance_type", o.guidance_type, kGuidanceNames,
                  "guidance: cg by the classifier, cfg classifier-free, uncond without the condition");
  app.add_option("--guidance_rate", o.guidance_rate, "strength of the guidance");
  cli::add_choice(app, "--precision", o.precision, kPrecisionNames, "of the network inside the model");
  app.add_option("--picture_images", o.picture_images, "images of each row in compare.png");
  app.add_option("--outdir", flags.outdir, "for results.json, results.md, compare.png and compare.svg")
      ->type_name("DIR");
  cli::add_common(app, flags.common);
}

CompareOptions read_options(const CompareFlags& flags) {
  CompareOptions options = flags.options;
  options.seeds = parse_seeds(flags.seeds);
  options.condition.prompt_file = flags.prompt_file;
  for (const auto& name : flags.schedules) options.schedules.push_back(value_of(kScheduleNames, name, "schedules"));
  return options.validated();
}

void write_results(const Comparison& comparison, const std::filesystem::path& outdir) {
  std::filesystem::create_directories(outdir);
  const auto table = comparison_table(comparison.rows);
  write_file(outdir / "results.json", comparison_json(comparison.rows));
  write_file(outdir / "results.md", table);
  write_file(outdir / "compare.svg", comparison_chart(comparison.rows));
  write_file(outdir / "compare.png", encode_png(comparison_picture(comparison)));
  std::cout << table << outdir.string() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  const auto app = cli::make_app("compare", "Compare solvers and predictors on one model: quality against evaluations");
  CompareFlags flags;
  add_flags(*app, flags);
  return run_main([&] {
    if (!cli::parse(*app, argc, argv)) return;
    cli::apply(flags.common);
    const auto group = cli::join_job(flags.common);
    group->run([&] {
      const auto device = cli::choose_device(flags.common, group->local_rank());
      const auto comparison = compare(read_options(flags), *group, device);
      if (group->is_root()) write_results(comparison, flags.outdir);
    });
  });
}
