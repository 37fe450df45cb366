#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "epd/assets/paths.h"
#include "epd/core/allocator.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/guidance.h"
#include "epd/documents/model_facts_json.h"
#include "epd/documents/run_dir.h"
#include "epd/solver/explain.h"
#include "train_flags.h"

namespace {

using namespace epd;
namespace fs = std::filesystem;

/// What the run would do, without loading a weight.
void explain(const TrainRun& given, const std::string& options) {
  const TrainRun run = with_dataset_name(given);
  const auto facts = read_model_facts(find_model(run.options.dataset_name, run.model_path));
  const auto student = run.options.validated().initial_predictor(facts);
  const auto map = make_sigma_map(facts.noise);
  const int cost = guidance_cost(student.guidance_type);
  std::cout << options << "\n"
            << "folder: " << run.outdir.string() << "/NNNNN-" << run_name(run, student) << "\n"
            << "iterations: " << run.options.num_iterations() << "\nstudent:\n"
            << explain_table(make_plan(student, student.time_steps(map.get())), cost) << "teacher:\n"
            << explain_table(make_plan(run.options.teacher_options(), run.options.teacher_grid(student, map.get())),
                             cost);
}

constexpr const char* kOptionsFile = "training_options.json";

fs::path resumed_folder(const TrainRun& run) {
  auto folder = find_run_dir(run.resume, run.outdir);
  EPD_REQUIRE(fs::exists(folder / kOptionsFile), "resume: no ", kOptionsFile, " in ", folder.string());
  return folder;
}

/// The command line with the options that the run to be resumed was started with; what is given on top wins.
std::vector<const char*> with_config(int argc, char** argv, const std::string& config) {
  std::vector<const char*> arguments(argv, argv + argc);
  static const std::string kConfig = "--config";
  arguments.push_back(kConfig.c_str());
  arguments.push_back(config.c_str());
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  return run_main([&] {
    auto app = cli::make_app("train", "Distil an EPD predictor from a teacher solver");
    cli::TrainFlags flags;
    cli::add_flags(*app, flags);
    if (!cli::parse(*app, argc, argv)) return;
    if (!flags.run.resume.empty()) {
      fs::path folder;
      report_once([&] { folder = resumed_folder(flags.run); });
      const std::string config = (folder / kOptionsFile).string();
      const auto arguments = with_config(argc, argv, config);
      app = cli::make_app("train", "Distil an EPD predictor from a teacher solver");
      flags = cli::TrainFlags();
      cli::add_flags(*app, flags);
      cli::parse(*app, static_cast<int>(arguments.size()), arguments.data());
      flags.run.resume = folder.string();
    }
    cli::apply(flags.common);
    flags.run.command_line = cli::used_options(*app).dump(2);
    if (flags.dry_run) return cli::on_root([&] { explain(cli::read_train(flags), flags.run.command_line); });
    const auto group = cli::join_job(flags.common);
    group->run([&] {
      flags.run.resources.device = cli::choose_device(flags.common, group->local_rank());
      const auto folder = run_train(with_dataset_name(cli::read_train(flags)), *group);
      if (group->is_root()) std::cout << folder.string() << std::endl;
    });
  });
}
