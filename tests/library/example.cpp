// Four images of the demo model, drawn with the predictor that ships with it: seed0.png to seed3.png.
#include "epd/assets/paths.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/images/png.h"
#include "epd/metrics/tensor_images.h"
#include "epd/sampling/sampler.h"
#include "epd/solver/make_plan.h"

int main() {
  const auto demo = epd::project_dir() / "models/demo";
  const auto model = epd::open_model({.path = demo / "denoiser.ts"});
  const auto predictor = epd::read_predictor(demo / "predictor.json");
  const auto t = predictor.time_steps();
  const auto labels = std::shared_ptr(epd::make_conditions(model.model, demo, {}));
  const epd::Sampler sampler(model, labels, epd::make_plan(predictor, t), t[0], {});
  const auto pixels = epd::to_pixels(sampler.draw({0, 1, 2, 3}).images);
  for (int seed = 0; seed < 4; ++seed) {
    epd::write_file("seed" + std::to_string(seed) + ".png", epd::encode_png(epd::image_of(pixels, seed)));
  }
}
