#include "epd/core/run_main.h"
#include "support/tiny_model.h"

/// make_tiny_model FOLDER: denoiser.ts and features.ts for tests that are scripts (tests/faults/soak.py).
int main(int argc, char** argv) {
  return epd::run_main([&] {
    EPD_REQUIRE_USAGE(argc == 2, "make_tiny_model FOLDER");
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder);
    epd::testing::make_tiny_model(folder / "denoiser.ts");
    epd::testing::make_tiny_detector(folder / "features.ts");
  });
}
