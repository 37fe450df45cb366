#include "fid_flags.h"

#include "epd/assets/paths.h"
#include "epd/core/error.h"

namespace epd::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPictures =
    "pictures: a folder and all below, a zip, an npy/npz of uint8 [N, H, W, C], cifar-10-python.tar.gz";

void add_picture_flags(CLI::App& command, FidFlags& flags) {
  auto& o = flags.pictures;
  add_optional(command, "--num", o.num, "this many of the pictures, chosen by --seed", "all")->type_name("INT");
  command.add_option("--seed", o.seed, "of the choice (NumPy's RandomState, as EDM's)")->type_name("INT");
  command.add_option("--batch", o.pass.batch, "pictures decoded ahead (memory; the result does not depend on it)");
  command.add_option("--chunk", o.chunk,
                     "pictures in one forward of the network, always as many (0: 32 on the CPU, 128 on a GPU)");
  command.add_option("--workers", o.pass.workers, "threads that decode pictures");
  command
      .add_option("--detector", o.detector,
                  "feature network: inception (unset), inception-pytorch, demo, a TorchScript file, or NAME for "
                  "models/NAME/NAME.ts in the cache")
      ->type_name("NAME|FILE");
  add_choice(command, "--alpha", o.alpha, kAlphaNames, "what becomes of transparency");
  add_bool(command, "--allow_mixed_sizes", o.pass.allow_mixed_sizes, "pictures of several sizes, each at its own");
  add_common(command, flags.common);
}

CLI::App* add_calc(CLI::App& app, FidFlags& flags) {
  auto* calc = app.add_subcommand("calc", "Score pictures against a reference; the last line on stdout is the number");
  calc->add_option("--images", flags.path, kPictures)->required()->type_name("PATH");
  calc->add_option("--ref", flags.reference,
                   "reference: statistics (npz), pictures, or a dataset's name (cifar10, ...)")
      ->required()
      ->type_name("PATH|NAME");
  calc->add_option("--metrics", flags.metrics, "any of fid, kid and prdc (precision, recall, density, coverage)");
  calc->add_option("--json", flags.json, "write all numbers and settings there")->type_name("FILE");
  calc->add_option("--report", flags.report, "write a page with numbers, pictures and plots there")->type_name("FILE");
  add_picture_flags(*calc, flags);
  return calc;
}

CLI::App* add_ref(CLI::App& app, FidFlags& flags) {
  auto* ref = app.add_subcommand("ref", "Write the statistics of pictures, as a reference for calc");
  ref->add_option("--data", flags.path, kPictures)->required()->type_name("PATH");
  ref->add_option("--dest", flags.dest, "the npz to write")->required()->type_name("FILE");
  add_bool(*ref, "--save_features", flags.save_features, "keep the features too, for kid and prdc");
  add_picture_flags(*ref, flags);
  return ref;
}

CLI::App* add_prepare(CLI::App& app, FidFlags& flags) {
  auto* prepare =
      app.add_subcommand("prepare", "Make a dataset in EDM's form: a zip of PNGs of one size, with classes");
  auto& o = flags.prepare;
  prepare->add_option("--source", flags.path, kPictures)->required()->type_name("PATH");
  prepare->add_option("--dest", flags.dest, "the zip to write")->required()->type_name("FILE");
  prepare->add_option("--resolution", flags.resolution, "width and height to resize to (unset: the pictures' own)")
      ->type_name("WxH");
  add_choice(*prepare, "--transform", o.transform, kCropNames, "what is cut off before resizing");
  add_optional(*prepare, "--max_images", o.max_images, "only the first of the pictures", "all")->type_name("INT");
  add_choice(*prepare, "--alpha", o.alpha, kAlphaNames, "what becomes of transparency");
  prepare->add_option("--workers", o.workers, "threads that decode and resize pictures");
  prepare->add_option("--json", flags.json, "write there what was made, and how")->type_name("FILE");
  add_common(*prepare, flags.common);
  return prepare;
}

}  // namespace

FidCommands add_flags(CLI::App& app, FidFlags& flags) {
  app.require_subcommand(1);
  FidCommands commands;
  commands.calc = add_calc(app, flags);
  commands.ref = add_ref(app, flags);
  commands.prepare = add_prepare(app, flags);
  return commands;
}

fs::path find_reference(const std::string& path_or_name) {
  const bool is_name = path_or_name.find_first_of("/.") == std::string::npos && !fs::exists(path_or_name);
  return is_name ? find_statistics(path_or_name) : fs::path(path_or_name);
}

CalcOptions read_calc(const FidFlags& flags) {
  CalcOptions options{.pictures = flags.pictures, .metrics = Metrics::parse(flags.metrics), .report = flags.report};
  options.pictures.path = flags.path;
  options.reference = find_reference(flags.reference);
  options.pictures.validated();
  return options;
}

RefOptions read_ref(const FidFlags& flags) {
  RefOptions options{.pictures = flags.pictures, .dest = flags.dest, .save_features = flags.save_features};
  options.pictures.path = flags.path;
  options.pictures.validated();
  return options;
}

PrepareOptions read_prepare(const FidFlags& flags) {
  auto options = flags.prepare;
  options.source = flags.path;
  options.dest = flags.dest;
  if (!flags.resolution.empty()) options.resolution = PrepareOptions::parse_resolution(flags.resolution);
  return options.validated();
}

}  // namespace epd::cli
