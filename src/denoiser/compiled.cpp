#include "epd/denoiser/compiled.h"

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/run_main.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/device.h"
#include "epd/denoiser/lanes.h"
#include "epd/denoiser/torchscript.h"
#include "epd/files/json.h"
#include "epd/files/zip.h"

namespace epd {
namespace {

constexpr std::string_view kEntry = "/extra/compiled.json";
constexpr const char* kAgain = "; compile it again with ./launch.sh model NAME --optimize";

/// What compiled code is bound to: a card's name and cuDNN, a processor's name and instructions.
std::string processor(at::Device device) {
  if (!device.is_cpu()) return device_name(device);
  constexpr std::array<std::string_view, 4> kLines{"model name", "flags", "CPU part", "Features"};
  std::ifstream stream("/proc/cpuinfo");
  std::string line, found;
  while (std::getline(stream, line) && !line.empty()) {
    const auto colon = line.find(':');
    const bool wanted = std::ranges::any_of(kLines, [&](auto start) { return line.starts_with(start); });
    if (!wanted || colon == line.npos) continue;
    const auto first = line.find_first_not_of(' ', colon + 1);
    if (first == line.npos) continue;
    found += (found.empty() ? "" : "; ") + line.substr(first, line.find_last_not_of(' ') + 1 - first);
  }
  return found;
}

std::string read_description(const std::filesystem::path& path) {
  const ZipReader zip(path);
  for (std::size_t i = 0; i < zip.size(); ++i) {
    if (zip.entries()[i].name.ends_with(kEntry)) return zip.read(i, 1 << 20);
  }
  throw Error(text(path.string(), ": no compiled model: it has no compiled.json"));
}

void require_fit(const std::filesystem::path& path, const CompiledFor& wanted) {
  auto json = JsonReader::parse(read_description(path), path.string() + ": compiled.json");
  const auto require = [&](const std::string& found, const std::string& here, const char* what) {
    EPD_REQUIRE(found == here, path.string(), " was compiled ", what, kAgain);
  };
  require(json.string("model_sha256"), wanted.model_sha256, "from another model file");
  const auto torch = json.string("torch");
  require(torch, TORCH_VERSION, ("by torch " + torch + ", this is " TORCH_VERSION).c_str());
  require(json.string("processor"), processor(wanted.device), "on another processor, or another driver or cuDNN");
}

/// Compiled kernels take dense inputs that begin where memory blocks do.
at::Tensor rows_of(const at::Tensor& x, std::int64_t begin, std::int64_t rows) {
  const auto part = x.narrow(0, begin, rows);
  const bool aligned = reinterpret_cast<std::uintptr_t>(part.const_data_ptr()) % 64 == 0;
  return part.is_contiguous() && aligned ? part : part.clone(at::MemoryFormat::Contiguous);
}

}  // namespace

struct CompiledForward::Loader {
  Loader(const std::filesystem::path& file, at::Device device)
      : path(file),
        package(file.string(), "model", /*run_single_threaded=*/false,
                /*num_runners=*/static_cast<std::size_t>(num_lanes(device)),
                device.is_cpu() ? c10::DeviceIndex{-1} : device.index()) {}

  std::filesystem::path path;
  torch::inductor::AOTIModelPackageLoader package;
};

std::filesystem::path CompiledForward::path_for(const CompiledFor& wanted) {
  auto name = wanted.model.stem();
  name += text(".", kind_of(wanted.device), "-", name_of(kPrecisionNames, wanted.precision), "-", wanted.rows, ".pt2");
  return wanted.model.parent_path() / name;
}

CompiledForward::CompiledForward(const CompiledFor& wanted) : rows_(wanted.rows) {
  const auto path = path_for(wanted);
  EPD_REQUIRE(std::filesystem::exists(path), "no compiled model ", path.string(),
              "; compile it with ./launch.sh model NAME --optimize --precision ",
              name_of(kPrecisionNames, wanted.precision), " --chunk ", wanted.rows);
  require_undamaged(path);
  require_fit(path, wanted);
  sha256_ = sha256_of_file(path);
  try {
    loader_ = std::make_unique<Loader>(path, wanted.device);
  } catch (const std::exception& e) {
    throw Error(text("cannot load the compiled model ", path.string(), ": ", one_line(e.what()), kAgain));
  }
}

CompiledForward::~CompiledForward() = default;

at::Tensor CompiledForward::forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const {
  std::vector<at::Tensor> parts;
  try {
    for (std::int64_t begin = 0; begin < x.size(0); begin += rows_) {
      std::vector<at::Tensor> inputs{rows_of(x, begin, rows_), rows_of(sigma, begin, rows_)};
      if (condition.defined()) inputs.push_back(rows_of(condition, begin, rows_));
      parts.push_back(loader_->package.run(inputs)[0]);
    }
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& e) {
    throw Error(text("compiled model ", loader_->path.string(), ": forward failed: ", one_line(e.what())));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

}  // namespace epd
