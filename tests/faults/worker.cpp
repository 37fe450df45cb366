#include <iostream>
#include <string>

#include "epd/core/run_main.h"
#include "epd/documents/manifest.h"
#include "epd/documents/training_state.h"
#include "epd/files/npz.h"
#include "epd/files/outputs.h"
#include "epd/images/image_writer.h"
#include "epd/images/prepare.h"

// What the programs do with files, without Torch, whose start takes longer than the rest: run_faults.py makes its calls
// fail one by one.

namespace epd {
namespace {

namespace fs = std::filesystem;

/// `fid prepare`.
void prepare(const fs::path& source, const fs::path& out) {
  PrepareOptions options;
  options.source = source;
  options.dest = out / "set.zip";
  options.resolution = {24, 24};
  const auto record = prepare_dataset(options);
  write_file(out / "set.json", json_text(record) + "\n");
}

/// As `sample` writes: a manifest first, then the images that are not there yet.
void draw(const fs::path& source, const fs::path& out) {
  const auto images = open_image_source(source);
  create_folder(out / "images", "outdir");
  remove_temporary_files(out / "images");
  const Manifest manifest{.settings = {{"images", images->size()}}};
  const auto before = read_manifest(out / "images");
  EPD_REQUIRE(!before || before->settings == manifest.settings, "another manifest");
  write_manifest(out / "images", manifest);
  ImageWriter writer(folder_sink(out / "images"));
  for (std::size_t i = 0; i < images->size(); ++i) {
    const std::string name = text("0000/", i, ".png");
    if (!fs::exists(out / "images" / name)) writer.push(name, images->load(i), {{"seed", std::to_string(i)}});
  }
  writer.finish();
}

/// As `train` goes on from state to state, and `fid ref` leaves its numbers.
void learn(const fs::path& source, const fs::path& out) {
  const auto images = open_image_source(source);
  auto state =
      read_training_state(out).value_or(TrainingState{.parameters = {0}, .adam_mean = {0}, .adam_square = {0}});
  for (; state.iteration < static_cast<std::int64_t>(images->size()); ++state.iteration) {
    write_training_state(out, state);
    const Image image = images->load(static_cast<std::size_t>(state.iteration));
    for (const auto value : image.pixels) state.parameters[0] += value;
  }
  write_training_state(out, state);
  write_npz(out / "sums.npz", {{"sum", Array::scalar(state.parameters[0])}}, Durability::kSync);
}

}  // namespace
}  // namespace epd

int main(int argc, char** argv) {
  return epd::run_main([&] {
    EPD_REQUIRE_USAGE(argc == 4, "worker prepare|draw|learn SOURCE OUT");
    const std::string work = argv[1];
    (work == "prepare" ? epd::prepare : work == "draw" ? epd::draw : epd::learn)(argv[2], argv[3]);
    std::cout << work << "\n";
  });
}
