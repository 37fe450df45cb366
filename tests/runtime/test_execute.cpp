#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "epd/denoiser/chunked.h"
#include "epd/runtime/execute.h"
#include "epd/runtime/linear.h"
#include "epd/solver/make_plan.h"
#include "support/golden_solvers.h"
#include "support/mixture_denoiser.h"
#include "support/run_plan.h"

namespace epd {
namespace {

using testing::golden_cases;
using testing::TensorMixture;

std::vector<double> values(const at::Tensor& x) {
  const auto flat = x.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

Condition labelled(const std::vector<std::int64_t>& labels) {
  Condition condition;
  condition.labels = at::tensor(labels, at::kLong);
  return condition;
}

const TimeSteps kTimes({80, 7, 1.3, 0.3, 0.01});

SolverOptions solver_named(SolverKind kind) {
  SolverOptions options;
  options.kind = kind;
  return options;
}

TEST(Execute, EverySolverGivesWhatItsPlanGivesOnPlainNumbers) {
  const auto start = at::tensor({-60.0, 12.0, 85.0, 3.0, -0.5, 41.0}, at::kDouble).view({2, 3, 1, 1});
  for (const auto& [name, kind] : kSolverNames) {
    const auto plan = make_plan(solver_named(kind), kTimes);
    const TensorMixture denoiser;
    std::vector<std::vector<double>> grid;
    execute(plan, denoiser, {}, start, [&](std::size_t, const at::Tensor& x) { grid.push_back(values(x)); });
    const auto expected = testing::run_plan(plan, values(start), testing::MixtureDenoiser{});
    ASSERT_EQ(grid.size(), expected.grid.size()) << name;
    for (std::size_t n = 0; n < grid.size(); ++n) {
      for (std::size_t i = 0; i < grid[n].size(); ++i) EXPECT_NEAR(grid[n][i], expected.grid[n][i], 1e-11) << name;
    }
    EXPECT_EQ(denoiser.forwards, plan.nfe()) << name;
    EXPECT_EQ(denoiser.rows, 2 * plan.evaluations()) << name;
  }
}

TEST(Execute, StudentsGiveThePublishedStatesWithTheirLabels) {
  for (const auto& golden : golden_cases("students")) {
    const std::string student = golden.at("options").at("solver");
    const auto spec = testing::golden_predictor(golden, student);
    const auto shape = golden.at("shape").get<std::vector<std::int64_t>>();
    const auto states = golden.at("states").get<std::vector<std::vector<double>>>();
    Condition condition;
    if (!golden.at("labels").is_null()) condition = labelled(golden.at("labels").get<std::vector<std::int64_t>>());
    const TensorMixture denoiser;
    const auto end = values(execute(make_plan(spec, spec.time_steps()), denoiser, condition,
                                    at::tensor(states.front(), at::kDouble).view(shape)));
    double scale = 0;
    for (const double x : states.back()) scale = std::max(scale, std::abs(x));
    for (std::size_t i = 0; i < end.size(); ++i) {
      EXPECT_NEAR(end[i], states.back()[i], 1e-10 * scale) << golden.at("name");
    }
  }
}

TEST(Execute, PointsStandPointMajorInOneForward) {
  PlanBuilder<double> builder;
  const auto x = builder.start();
  const auto denoised = builder.denoise({x, 2.0 * x}, {1.0, 3.0});
  builder.grid_point(denoised[0]);
  builder.grid_point(denoised[1]);
  const TensorMixture denoiser;
  std::vector<std::vector<double>> grid;
  const auto start = at::tensor({0.4, -1.1}, at::kDouble).view({2, 1, 1, 1});
  execute(builder.plan(), denoiser, labelled({1, 2}), start,
          [&](std::size_t, const at::Tensor& state) { grid.push_back(values(state)); });
  EXPECT_EQ(denoiser.forwards, 1);
  const auto D = [](int label, double at, double sigma) { return testing::kLabelMixtures[label](at, sigma); };
  EXPECT_NEAR(grid[1][0], D(1, 0.4, 1), 1e-14);
  EXPECT_NEAR(grid[1][1], D(2, -1.1, 1), 1e-14);
  EXPECT_NEAR(grid[2][0], D(1, 0.8, 3), 1e-14);
  EXPECT_NEAR(grid[2][1], D(2, -2.2, 3), 1e-14);
}

at::Generator stream(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

TEST(Execute, DrawsAnImagesNoiseFromItsOwnStreamInEveryRun) {
  PlanBuilder<double> builder;
  const auto x = builder.state(builder.start() + 2.0 * builder.noise());
  builder.grid_point(x + 3.0 * builder.noise());
  const auto start = at::tensor({0.5F, -1.5F, 1.0F, 2.0F}).view({2, 2, 1, 1});
  const std::vector<at::Generator> streams{stream(5), stream(6)};
  const TensorMixture denoiser;
  const auto end = execute(builder.plan(), denoiser, {}, start, nullptr, streams);
  for (std::int64_t b = 0; b < 2; ++b) {
    auto generator = stream(5 + static_cast<std::uint64_t>(b));
    const auto first = at::empty({2, 1, 1}).normal_(0, 1, generator),
               second = at::empty({2, 1, 1}).normal_(0, 1, generator);
    EXPECT_LT((end[b] - (start[b] + 2 * first + 3 * second)).abs().max().item<double>(), 1e-6) << b;
  }
  EXPECT_TRUE(at::equal(execute(builder.plan(), denoiser, {}, start, nullptr, streams), end));
  const auto exact = execute(builder.plan(), denoiser, {}, start.to(at::kDouble), nullptr, streams);
  EXPECT_EQ(exact.scalar_type(), at::kDouble);
}

TEST(Execute, FloatStatesAgreeWithDoubleToFloatPrecision) {
  const auto start = at::tensor({-60.0, 12.0, 85.0, 3.0}, at::kDouble).view({2, 2, 1, 1});
  const auto plan = make_plan(solver_named(solver_kind("dpmpp")), kTimes);
  const TensorMixture denoiser;
  const auto exact = execute(plan, denoiser, {}, start), rounded = execute(plan, denoiser, {}, start.to(at::kFloat));
  EXPECT_EQ(rounded.scalar_type(), at::kFloat);
  EXPECT_LT((exact - rounded).abs().max().item<double>(), 2e-5);
}

/// States and images by weak references: which of them are still alive.
struct Seen {
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> tensors;

  void add(const at::Tensor& x) { tensors.push_back(x.storage().getWeakStorageImpl()); }
  std::ptrdiff_t alive() const {
    return std::count_if(tensors.begin(), tensors.end(), [](const auto& x) { return !x.expired(); });
  }
};

/// Remembers what it was given and what it gave, and how much of that was alive at once.
class WatchfulMixture : public TensorMixture {
 public:
  at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                      const Condition& condition) const override {
    auto image = TensorMixture::evaluate(x, sigma, num_points, condition);
    seen.add(x);
    seen.add(image);
    most_alive = std::max(most_alive, seen.alive());
    return image;
  }

  mutable Seen seen;
  mutable std::ptrdiff_t most_alive = 0;
};

TEST(Execute, KeepsNoMoreStatesForMoreSteps) {
  for (const auto& [name, kind] : kSolverNames) {
    const auto most_alive = [&, kind = kind](int num_steps) {
      const WatchfulMixture denoiser;
      execute(make_plan(solver_named(kind), make_time_steps({}, num_steps)), denoiser, {}, at::ones({2, 3, 1, 1}));
      return denoiser.most_alive;
    };
    EXPECT_EQ(most_alive(40), most_alive(20)) << name;
    EXPECT_LE(most_alive(40), 10) << name;
  }
}

TEST(Execute, ShowsAStateWhenItIsMadeAndFreesItAfterwards) {
  const WatchfulMixture denoiser;
  Seen grid;
  std::vector<int> forwards;
  const auto end = execute(make_plan(solver_named(solver_kind("euler")), kTimes), denoiser, {}, at::ones({2, 3, 1, 1}),
                           [&](std::size_t n, const at::Tensor& x) {
                             EXPECT_EQ(n, forwards.size());
                             forwards.push_back(denoiser.forwards);
                             grid.add(x);
                             EXPECT_LE(grid.alive(), 2);  // the one before may be what a register was made of
                           });
  EXPECT_EQ(forwards, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_EQ(grid.alive(), 1);  // the end
}

TEST(Execute, ShowsGridPointsInTheirOrderThoughALaterOneWasKnownBefore) {
  PlanBuilder<double> plan;
  const auto early = plan.state(2.0 * plan.start()), late = plan.state(3.0 * early);
  plan.grid_point(late);
  plan.grid_point(early);
  plan.grid_point(plan.state(0.5 * late));
  std::vector<double> grid;
  execute(plan.plan(), TensorMixture(), {}, at::ones({1, 1, 1, 1}, at::kDouble),
          [&](std::size_t n, const at::Tensor& x) {
            EXPECT_EQ(n, grid.size());
            grid.push_back(values(x)[0]);
          });
  EXPECT_EQ(grid, (std::vector<double>{1, 6, 2, 3}));
}

TEST(Linear, SumsAndProductsAreFloat64Inside) {
  const auto big = at::full({3, 5000}, 1e8, at::kFloat), small = at::full({3, 5000}, 1.0, at::kFloat);
  const auto sum = weighted_sum({{1, big}, {1, small}, {-1, big}});
  EXPECT_TRUE(at::equal(sum, small));
  const auto dot = inner_products(big, small);
  EXPECT_EQ(dot.scalar_type(), at::kDouble);
  EXPECT_EQ(dot[2].item<double>(), 5000 * 1e8);
}

TEST(Chunks, AnImageDoesNotDependOnItsBatch) {
  const auto inner = std::make_shared<TensorMixture>();
  const ChunkedDenoiser denoiser(inner, {3, 0});
  const auto x = at::randn({2 * 7, 3, 4, 4}, at::kFloat), sigma = at::rand({2 * 7}, at::kFloat) + 0.1;
  const auto condition = labelled({0, 1, 2, 0, 1, 2, 0});
  const auto all = denoiser.forward(x, sigma, 2, condition);
  EXPECT_EQ(inner->forwards, 3);
  EXPECT_EQ(inner->rows, 3 * 3 * 2);
  for (std::int64_t b = 0; b < 7; ++b) {
    const auto rows = at::tensor({b, 7 + b}, at::kLong);
    const auto one =
        denoiser.forward(x.index_select(0, rows), sigma.index_select(0, rows), 2, condition.slice(b, b + 1));
    EXPECT_TRUE(at::equal(one, all.index_select(0, rows))) << b;
  }
}

TEST(Chunks, GradientsAreThoseOfTheWholeBatch) {
  const auto inner = std::make_shared<TensorMixture>();
  const auto x = at::randn({3 * 5, 2, 2, 2}, at::kDouble), sigma = at::rand({3 * 5}, at::kDouble) + 0.1;
  const auto gradient = at::randn_like(x);
  const auto condition = labelled({0, 1, 2, 0, 1});
  const auto whole = inner->differentiate(x, sigma, 3, condition).pullback(gradient);
  for (const std::int64_t points : {0, 1, 2}) {
    const auto parts = ChunkedDenoiser(inner, {2, points}).differentiate(x, sigma, 3, condition);
    const auto found = parts.pullback(gradient);
    EXPECT_TRUE(at::allclose(found.x, whole.x, 1e-12, 1e-12)) << points;
    EXPECT_TRUE(at::allclose(found.sigma, whole.sigma, 1e-12, 1e-12)) << points;
    const auto alone = ChunkedDenoiser(inner, {2, points}).pull_back(x, sigma, 3, condition, gradient);
    EXPECT_TRUE(at::equal(alone.x, found.x) && at::equal(alone.sigma, found.sigma)) << points;
  }
}

}  // namespace
}  // namespace epd
