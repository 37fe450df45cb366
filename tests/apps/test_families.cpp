// Every family of models through both programs: what train learns, sample draws, under every guidance.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include "epd/documents/predictor_json.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/seed_noise.h"
#include "epd/text/clip_tokenizer.h"
#include "families.h"

namespace epd::test {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* name;
  Family family;
  GuidanceKind guidance;
  StudentKind student;
  SolverKind teacher;
  ScheduleKind schedule;
  bool afs;
  int num_points;
  Objective objective;

  friend void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }
};

constexpr auto kNone = GuidanceKind::kNone, kUncond = GuidanceKind::kUnconditional,
               kCfg = GuidanceKind::kClassifierFree, kCg = GuidanceKind::kClassifier;
constexpr auto kEpd = StudentKind::kEpd, kIpndm = StudentKind::kIpndm;
constexpr auto kUniform = ScheduleKind::kTimeUniform, kDiscrete = ScheduleKind::kDiscrete,
               kPoly = ScheduleKind::kPolynomial, kLogSnr = ScheduleKind::kLogSnr;
constexpr auto kPerStep = Objective::kPerStep, kEndToEnd = Objective::kEndToEnd;

const Case kCases[] = {
    {"Pixels", Family::kPixels, kNone, kEpd, solver_kind("heun"), kUniform, true, 2, kEndToEnd},
    {"PixelsPluginWithThreePoints", Family::kPixels, kUncond, kIpndm, solver_kind("ipndm"), kPoly, true, 3, kPerStep},
    {"Labels", Family::kOneHot, kNone, kEpd, solver_kind("dpm"), kPoly, true, 2, kPerStep},
    {"LabelsFreely", Family::kOneHot, kCfg, kEpd, solver_kind("dpmpp"), kLogSnr, true, 3, kPerStep},
    {"LabelsLeftOut", Family::kOneHot, kUncond, kIpndm, solver_kind("ipndm"), kPoly, false, 2, kPerStep},
    {"LabelsFreelyByThePlugin", Family::kOneHot, kCfg, kIpndm, solver_kind("heun"), kUniform, true, 2, kPerStep},
    {"Classifier", Family::kClassifier, kCg, kEpd, solver_kind("heun"), kDiscrete, true, 2, kPerStep},
    {"ClassifierByThePlugin", Family::kClassifier, kCg, kIpndm, solver_kind("dpmpp"), kUniform, false, 3, kPerStep},
    {"ClassifierUnused", Family::kClassifier, kNone, kEpd, solver_kind("ipndm"), kDiscrete, false, 2, kEndToEnd},
    {"Latents", Family::kLatent, kUncond, kEpd, solver_kind("dpm"), kDiscrete, true, 2, kPerStep},
    {"LatentsThroughTheDecoderAlone", Family::kLatent, kNone, kEpd, solver_kind("heun"), kUniform, true, 2, kEndToEnd},
    {"LatentsByThePlugin", Family::kLatent, kNone, kIpndm, solver_kind("ipndm"), kDiscrete, true, 2, kPerStep},
    {"Text", Family::kText, kCfg, kEpd, solver_kind("dpm"), kDiscrete, true, 2, kPerStep},
    {"TextByThePlugin", Family::kText, kCfg, kIpndm, solver_kind("dpmpp"), kDiscrete, false, 2, kPerStep},
    {"TextUnguided", Family::kText, kNone, kEpd, solver_kind("ipndm"), kDiscrete, true, 3, kEndToEnd},
};

constexpr double kRate = 2.5;

/// One image by the method's definitions: one point, one forward at a time, in the published order of operations.
class ByHand {
 public:
  ByHand(const TinyFamily& family, PredictorSpec spec)
      : model_(family.model_path(), at::kCPU, Precision::kFloat32), folder_(family / ""), spec_(std::move(spec)) {}

  at::Tensor image(std::uint64_t seed, const std::string& prompt) {
    const at::NoGradGuard no_grad;
    const auto [latents, labels, streams] = seed_noise({seed}, model_.facts(), at::kCPU);
    condition_ =
        model_.facts().text ? Condition{states(prompt), states(""), {}} : label_condition(labels, model_.facts());
    const auto map = make_sigma_map(model_.facts().noise);
    const auto t = spec_.time_steps(map.get());
    const auto table = epd_table(spec_, spec_.parameters().raw);
    history_.clear();
    auto x = latents.to(at::kDouble) * t[0];
    for (std::size_t n = 0; n < t.num_intervals(); ++n)
      x = step(x, t.interval(n), table[n], spec_.afs != Afs::kNo && n == 0);
    return model_.decode(x.to(at::kFloat))[0].to(at::kDouble);
  }

 private:
  at::Tensor states(const std::string& prompt) const {
    return model_.encode_text(at::tensor(ClipTokenizer::read(folder_).encode(prompt, 77)).unsqueeze(0));
  }

  at::Tensor step(const at::Tensor& x, Interval t, const EpdCoefficients<double>& c, bool afs) {
    const auto d_cur = afs ? x / std::sqrt(1 + t.cur * t.cur) : (x - denoised(x, t.cur)) / t.cur;
    history_.push_back(d_cur);
    const auto towards = spec_.parameters().on_ipndm ? adams_bashforth() : d_cur;
    auto x_next = x;
    for (std::size_t k = 0; k < c.r.size(); ++k) {
      const double t_mid = std::pow(t.next, c.r[k]) * std::pow(t.cur, 1 - c.r[k]);
      const auto x_mid = x + (t_mid - t.cur) * towards;
      const auto d_mid = (x_mid - denoised(x_mid, c.scale_time[k] * t_mid)) / t_mid;
      x_next = x_next + (t.next - t.cur) * c.weight[k] * c.scale_dir[k] * d_mid;
    }
    return x_next;
  }

  /// Orders 1 and 2, which are all that two steps reach.
  at::Tensor adams_bashforth() const {
    const auto n = history_.size();
    return n == 1 ? history_[0] : (3 * history_[n - 1] - history_[n - 2]) / 2;
  }

  at::Tensor denoised(const at::Tensor& x, double sigma) const {
    const auto result = guided(x.to(at::kFloat), at::full({1}, sigma, at::kFloat)).to(at::kDouble);
    return model_.facts().clamp ? result.clamp(-1, 1) : result;
  }

  at::Tensor guided(const at::Tensor& x, const at::Tensor& sigma) const {
    const auto with = [&](const at::Tensor& condition) { return model_.forward(x, sigma, condition); };
    if (spec_.guidance_type == kUncond) return with(condition_.unconditional);
    if (spec_.guidance_type == kNone) return with(condition_.value);
    if (spec_.guidance_type == kCfg) {
      return (1 - kRate) * with(condition_.unconditional) + kRate * with(condition_.value);
    }
    const at::AutoGradMode with_grad(true);
    const auto leaf = x.clone().requires_grad_(true);
    const auto log_prob = model_.log_prob(leaf, sigma, condition_.labels);
    return with(condition_.value) + kRate * sigma * sigma * torch::autograd::grad({log_prob.sum()}, {leaf})[0];
  }

  TorchScriptModel model_;
  std::filesystem::path folder_;
  PredictorSpec spec_;
  Condition condition_;
  std::vector<at::Tensor> history_;
};

class EveryFamily : public ::testing::TestWithParam<Case> {
 protected:
  TrainRun training() const {
    const Case& c = GetParam();
    auto run = family_.training();
    auto& o = run.options;
    o.guidance_type = c.guidance;
    if (c.guidance == kCfg || c.guidance == kCg) o.guidance_rate = kRate;
    o.student = c.student;
    o.teacher = c.teacher;
    o.schedule_kind = c.schedule;
    o.schedule_rho = 1;
    o.afs = c.afs ? Afs::kAnalytical : Afs::kNo;
    o.num_points = c.num_points;
    o.objective = c.objective;
    if (c.family == Family::kText) run.prompt = "a cat";
    return run;
  }

  TinyFamily family_{GetParam().family};
};

TEST_P(EveryFamily, IsTrainedAndSampledAsTheMethodSays) {
  const Case& c = GetParam();
  const auto run = training();
  const auto folder = family_.train(run);
  const int nfe = (4 - c.afs) * (c.guidance == kCfg ? 2 : 1);
  EXPECT_THAT(folder.filename().string(), HasSubstr(text("-tiny-3-", nfe, "-")));

  const auto spec = read_predictor(folder / "predictor.json");
  const auto before = run.options.initial_predictor(family_.facts()).parameters().raw;
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_NE(spec.parameters().raw[i], before[i]) << "parameter " << i << " had no gradient";
  }

  auto sampling = family_.sampling();
  sampling.method = {};
  sampling.method.predictor_path = folder.string();
  if (c.family == Family::kText) sampling.condition.prompt = "a dog";
  const auto images = family_.images(sampling, "drawn");
  ByHand by_hand(family_, spec);
  for (std::size_t i = 0; i < sampling.seeds.size(); ++i) {
    const auto expected = by_hand.image(sampling.seeds[i], "a dog");
    const double gap = (images[static_cast<std::int64_t>(i)] - expected).abs().max().item<double>();
    EXPECT_LE(gap, 1e-4 * expected.abs().max().item<double>()) << "seed " << sampling.seeds[i];
  }
  const auto again = family_.sample(sampling);
  EXPECT_EQ(again.nfe, nfe);
  EXPECT_EQ(again.evaluations, (2 * (1 + c.num_points) - c.afs) * (c.guidance == kCfg ? 2 : 1));
}

INSTANTIATE_TEST_SUITE_P(All, EveryFamily, ::testing::ValuesIn(kCases), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace epd::test
