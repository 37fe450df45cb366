#include "epd/evaluation/compare.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>

#include "cli.h"
#include "epd/core/run_main.h"
#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"
#include "epd/files/outputs.h"
#include "epd/images/png.h"

namespace {

using namespace epd;

constexpr std::array kResults{"results.json", "results.md", "compare.svg", "compare.png"};

constexpr const char* kSettings = "settings.json";

/// The text of the folder's settings.json: a folder holds the results of one set of options, and others are refused.
std::string settings_for_folder(CompareOptions options) {
  const auto outdir = options.outdir, path = outdir / kSettings;
  if (std::filesystem::exists(std::filesystem::symlink_status(outdir))) {
    create_folder(outdir, "outdir");
    const AtomicFile writable(path);
  }
  const auto here = decisive_options(options_of(options), {{"software_version", version()}}).dump(1);
  const bool has_results =
      std::ranges::any_of(kResults, [&](auto name) { return std::filesystem::exists(outdir / name); });
  if (has_results && !options.overwrite) {
    EPD_REQUIRE(std::filesystem::exists(path), outdir.string(), " has results and no settings.json that describes them",
                "; choose another --outdir, or replace them with --overwrite");
    const auto json = Json::parse(read_file(path), nullptr, false);
    const auto other = json.is_object() ? first_difference(json, Json::parse(here))
                                        : std::optional<std::string>("its settings.json is damaged");
    EPD_REQUIRE(!other, outdir.string(), " has results of other options: ", other.value_or(""),
                "; choose another --outdir, or replace them with --overwrite");
  }
  return here + "\n";
}

void write_results(const Comparison& comparison, const CompareOptions& options, const std::string& settings) {
  const auto& outdir = options.outdir;
  create_folder(outdir, "outdir");
  const auto table = comparison_table(comparison.rows);
  write_file(outdir / kSettings, settings);
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
  cli::Common common;
  cli::Program program{"compare",
                       "Compare solvers and predictors on one model: quality against evaluations",
                       {{"", "", options_of(options).add(cli::options_of(common))}}};
  return run_main([&] {
    if (!program.parse(argc, argv)) return;
    cli::apply(common);
    cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) {
      options.validated();
      const auto settings = group.is_root() ? settings_for_folder(options) : "";
      const auto comparison = compare(options, group, device);
      if (group.is_root()) write_results(comparison, options, settings);
    });
  });
}
