#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>

#include "epd/core/allocator.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"
#include "epd/distributed/process_group.h"
#include "epd/files/atomic_file.h"
#include "fid_flags.h"

namespace {

using namespace epd;

/// Runs the work on all processes of the job, each on its device.
void on_all_processes(const cli::Common& common, const std::function<void(ProcessGroup&, at::Device)>& work) {
  const auto group = cli::join_job(common);
  group->run([&] { work(*group, cli::choose_device(common, group->local_rank())); });
}

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

void calc(const cli::FidFlags& flags, const CLI::App& command) {
  on_all_processes(flags.common, [&](ProcessGroup& group, at::Device device) {
    const auto options = cli::read_calc(flags);
    if (group.is_root() && !flags.json.empty()) prepare_output(flags.json);
    auto result = run_calc(options, group, device);
    if (!group.is_root()) return;
    result.record.raw("options", cli::used_options(command).dump());
    if (!flags.json.empty()) write_file(flags.json, result.record.pretty() + "\n");
    print(result.scores);
  });
}

void ref(const cli::FidFlags& flags) {
  on_all_processes(flags.common, [&](ProcessGroup& group, at::Device device) {
    const auto options = cli::read_ref(flags);
    run_ref(options, group, device);
    if (group.is_root()) std::cout << options.dest.string() << "\n";
  });
}

/// One process does all of it; others of the job have nothing to do.
void prepare(const cli::FidFlags& flags) {
  on_all_processes(flags.common, [&](ProcessGroup& group, at::Device) {
    const auto options = cli::read_prepare(flags);
    if (!group.is_root()) return;
    prepare_output(options.dest);
    if (!flags.json.empty()) prepare_output(flags.json);
    const auto record = prepare_dataset(options);
    if (!flags.json.empty()) write_file(flags.json, record.pretty() + "\n");
    std::cout << options.dest.string() << "\n";
  });
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  const auto app = cli::make_app("fid", "Frechet distance and other scores of generated pictures");
  cli::FidFlags flags;
  const auto commands = cli::add_flags(*app, flags);
  return run_main([&] {
    if (!cli::parse(*app, argc, argv)) return;
    cli::apply(flags.common);
    if (commands.calc->parsed()) return calc(flags, *commands.calc);
    if (commands.ref->parsed()) return ref(flags);
    prepare(flags);
  });
}
