#include "epd/plan_runner.h"

// Compiled, not run (CMakeLists.txt).
std::vector<float> image_of(const std::string& path, const std::vector<float>& noise,
                            const epd_plan::Denoise& denoise) {
  return epd_plan::run(epd_plan::read(path), noise, denoise);
}
