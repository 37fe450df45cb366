#include <filesystem>
#include <iostream>
#include <string>

#include "cli.h"
#include "epd/assets/paths.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/guidance.h"
#include "epd/denoiser/memory.h"
#include "epd/distill/run_train.h"
#include "epd/distributed/environment.h"
#include "epd/documents/model_facts_json.h"
#include "epd/documents/run_dir.h"
#include "epd/files/options_json.h"
#include "epd/solver/explain.h"

namespace {

using namespace epd;
namespace fs = std::filesystem;

/// What the run would do, without loading a weight.
void explain(const TrainRun& given, at::Device device) {
  const TrainRun run = with_dataset_name(given);
  const auto facts = read_model_facts(find_model(run.options.dataset_name, run.model_path));
  const auto student = run.validated().options.initial_predictor(facts);
  const auto map = make_sigma_map(facts.noise);
  const int cost = guidance_cost(student.guidance_type);
  std::cout << text(run.command_line, "\nfolder: ", planned_folder(run, student).string(),
                    "\niterations: ", run.options.num_iterations(), "\nstudent:\n",
                    explain_table(make_plan(student, student.time_steps(map.get())), cost), "teacher:\n",
                    explain_table(make_plan(run.options.teacher_options(clock_of(facts.noise)),
                                            run.options.teacher_grid(student, map.get())),
                                  cost),
                    text_or_why([&] { return train_memory(run, device, rank_environment().size); }), "\n");
}

/// The options of the run that is resumed; what was given wins.
void add_options_of_run(Options& options, TrainRun& run) {
  constexpr const char* kOptionsFile = "training_options.json";
  const auto folder = find_run_dir(run.resume, run.outdir);
  EPD_REQUIRE(fs::exists(folder / kOptionsFile), "resume: no ", kOptionsFile, " in ", folder.string());
  cli::read_settings(options, (folder / kOptionsFile).string());
  run.resume = folder.string();
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  TrainRun run;
  run.evaluation.seeds = parse_seeds("0-4095");
  cli::Common common;
  cli::Program program{"train",
                       "Distil an EPD predictor from a teacher solver",
                       {{"", "", options_of(run).add(cli::options_of(common))}}};
  return run_main([&] {
    auto* command = program.parse(argc, argv);
    if (command == nullptr) return;
    if (!run.resume.empty() && run.resume != TrainRun::kAuto)
      report_once([&] { add_options_of_run(command->options, run); });
    cli::apply(common);
    run.command_line = options_json(command->options).dump(2);
    if (run.dry_run) return cli::on_root([&] { explain(run, cli::planned_device(common)); });
    cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) {
      run.resources.device = device;
      const auto folder = run_train(with_dataset_name(run), group);
      if (group.is_root()) std::cout << folder.string() << std::endl;
    });
  });
}
