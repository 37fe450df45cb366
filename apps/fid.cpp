#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>

#include "cli.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"
#include "epd/distributed/process_group.h"
#include "epd/evaluation/run_fid.h"
#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"
#include "epd/images/prepare.h"

namespace {

using namespace epd;

/// The scores in words on stderr, and the number alone as the last line on stdout.
void print(const Scores& scores) {
  if (scores.frechet) log::info("Frechet distance ", scores.fid(), " (lower is better)");
  if (scores.kid) log::info("KID ", scores.kid->mean, " +- ", scores.kid->deviation, " (lower is better)");
  if (scores.prdc) {
    log::info("precision ", scores.prdc->precision, ", recall ", scores.prdc->recall, ", density ",
              scores.prdc->density, ", coverage ", scores.prdc->coverage, " (higher is better)");
  }
  std::printf("%g\n", scores.headline());
}

void calc(const CalcOptions& options, const Options& described, const cli::Common& common) {
  cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) {
    if (group.is_root() && !options.json.empty()) prepare_output(options.json);
    auto result = run_calc(options, group, device);
    if (!group.is_root()) return;
    result.record["options"] = options_json(described);
    if (!options.json.empty()) write_output(options.json, json_text(result.record) + "\n");
    print(result.scores);
  });
}

void ref(const RefOptions& options, const cli::Common& common) {
  cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) {
    run_ref(options, group, device);
    if (group.is_root()) std::cout << options.dest.string() << "\n";
  });
}

/// One process does all of it; others of the job have nothing to do.
void prepare(const PrepareOptions& options, const cli::Common& common) {
  cli::on_all_processes(common, [&](ProcessGroup& group, at::Device) {
    options.validated();
    if (!group.is_root()) return;
    prepare_output(options.dest);
    if (!options.json.empty()) prepare_output(options.json);
    const auto record = prepare_dataset(options);
    if (!options.json.empty()) write_output(options.json, json_text(record) + "\n");
    std::cout << options.dest.string() << "\n";
  });
}

/// "fid A B", as other programs are called.
void refuse_two_paths(int argc, const char* const* argv) {
  const auto is_path = [&](int i) {
    const std::string word = argv[i];
    return !word.starts_with('-') && word != "calc" && word != "ref" && word != "prepare";
  };
  EPD_REQUIRE_USAGE(argc != 3 || !is_path(1) || !is_path(2), "two paths without a command; their distance is fid calc ",
                    "--images ", argv[1], " --ref ", argv[2]);
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  CalcOptions calc_options;
  RefOptions ref_options;
  PrepareOptions prepare_options;
  cli::Common common;
  const auto with_common = [&](Options options) { return options.add(cli::options_of(common)); };
  cli::Program program{
      "fid",
      "Frechet distance and other scores of generated images",
      {{"calc", "Score images against a reference; the last line of stdout is the score",
        with_common(options_of(calc_options))},
       {"ref", "Write statistics of images, as a reference for calc", with_common(options_of(ref_options))},
       {"prepare", "Make a dataset in EDM's format: a zip of PNGs of one size, with class labels",
        with_common(options_of(prepare_options))}}};
  return run_main([&] {
    report_once([&] { refuse_two_paths(argc, argv); });
    const auto* command = program.parse(argc, argv);
    if (command == nullptr) return;
    cli::apply(common);
    if (command->name == "calc") return calc(calc_options, command->options, common);
    if (command->name == "ref") return ref(ref_options, common);
    prepare(prepare_options, common);
  });
}
