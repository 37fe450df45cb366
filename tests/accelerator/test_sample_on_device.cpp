// Sampling on an accelerator: the CPU's images, with as few copies as the design says.
#include <gmock/gmock.h>

#include "accelerator/on_device.h"

namespace epd::test {
namespace {

struct Case {
  const char* name;
  Family family;
  std::function<void(SampleOptions&)> change;

  friend void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }
};

std::function<void(SampleOptions&)> guided(GuidanceKind kind) {
  return [kind](SampleOptions& o) {
    o.method.guidance_type = kind;
    if (kind != GuidanceKind::kUnconditional) o.method.guidance_rate = 2.5;
    o.condition.prompt = kind == GuidanceKind::kClassifierFree ? o.condition.prompt : std::nullopt;
  };
}

const Case kCases[] = {
    {"Png", Family::kPixels, [](SampleOptions& o) { o.format = SampleFormat::kPng; }},
    {"Grid", Family::kPixels,
     [](SampleOptions& o) {
       o.format = SampleFormat::kPng;
       o.grid = true;
     }},
    {"Zip", Family::kOneHot, [](SampleOptions& o) { o.format = SampleFormat::kZip; }},
    {"Npz", Family::kOneHot, [](SampleOptions& o) { o.format = SampleFormat::kNpz; }},
    {"Raw", Family::kPixels, {}},
    {"States", Family::kOneHot,
     [](SampleOptions& o) {
       o.format = SampleFormat::kPng;
       o.save_inters = true;
     }},
    {"OneLabel", Family::kOneHot, [](SampleOptions& o) { o.condition.label = 2; }},
    {"Latents", Family::kLatent, {}},
    {"Text", Family::kText, [](SampleOptions& o) { o.condition.prompt = "a cat"; }},
    {"TextFreely", Family::kText,
     [](SampleOptions& o) {
       o.condition.prompt = "a cat";
       o.method.guidance_type = GuidanceKind::kClassifierFree;
       o.method.guidance_rate = 7.5;
     }},
    {"LabelsFreely", Family::kOneHot, guided(GuidanceKind::kClassifierFree)},
    {"LabelsLeftOut", Family::kOneHot, guided(GuidanceKind::kUnconditional)},
    {"Classifier", Family::kClassifier, guided(GuidanceKind::kClassifier)},
    {"Thresholding", Family::kOneHot, [](SampleOptions& o) { o.method.thresholding = true; }},
    {"MeanStart", Family::kOneHot, [](SampleOptions& o) { o.method.afs = Afs::kMean; }},
    {"MeanStartOfText", Family::kText,
     [](SampleOptions& o) {
       o.condition.prompt = "a cat";
       o.method.afs = Afs::kMean;
     }},
    {"NoiseOfTheDevice", Family::kOneHot, [](SampleOptions& o) { o.random_device = RandomDevice::kDevice; }},
    {"HistoryAndOnePointAtATime", Family::kPixels,
     [](SampleOptions& o) {
       o.method.solver = solver_kind("unipc");
       o.method.num_steps = 5;
       o.points_at_once = 1;
     }},
};

class SampleOnDevice : public OnDevice {
 protected:
  /// Nine images, four at a time.
  static SampleOptions options(const TinyFamily& family) {
    auto o = family.sampling();
    o.method.solver = solver_kind("heun");
    o.method.num_steps = 3;
    o.seeds = parse_seeds("0-8");
    o.batch = o.chunk = 4;
    o.decode_batch = 2;
    return o;
  }
  /// Draws into the folder of that name.
  fs::path drawn(SampleOptions o, at::Device device, const std::string& name) const {
    o.outdir = folder_ / name;
    o.overwrite = true;
    run_sample(o, *alone_, device);
    return o.outdir;
  }
};

class EveryKind : public SampleOnDevice, public ::testing::WithParamInterface<Case> {};

TEST_P(EveryKind, GivesTheImagesOfTheCpu) {
  const TinyFamily family(GetParam().family);
  auto o = options(family);
  if (GetParam().change) GetParam().change(o);
  expect_same_images(drawn(o, at::kCPU, "cpu"), drawn(o, kStandin, "device"));
}

INSTANTIATE_TEST_SUITE_P(OnDevice, EveryKind, ::testing::ValuesIn(kCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(SampleOnDevice, NoImageDependsOnTheBatch) {
  const TinyFamily family(Family::kOneHot);
  auto o = options(family);
  const auto expected = files_below(drawn(o, kStandin, "four"));
  o.batch = 12;
  EXPECT_EQ(files_below(drawn(o, kStandin, "all")), expected);
}

TEST_F(SampleOnDevice, NoBatchLeavesMemoryBehind) {
  const TinyFamily family(Family::kOneHot);
  const auto peak = [&](int batches) {
    auto o = options(family);
    o.seeds = parse_seeds(text("0-", 4 * batches - 1));
    return counted([&] { drawn(o, kStandin, "device"); }).peak_bytes;
  };
  peak(3);
  EXPECT_EQ(peak(6), peak(3));
}

}  // namespace
}  // namespace epd::test
