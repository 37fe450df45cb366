#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "epd/denoiser/chunked.h"
#include "epd/denoiser/lanes.h"
#include "epd/denoiser/open_model.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

TEST(Lanes, RunEveryPieceOnce) {
  const Lanes lanes(at::kCPU);
  for (const std::size_t count : {0, 1, 2, 17}) {
    std::vector<std::atomic<int>> runs(count);
    lanes.run(count, [&](std::size_t i) { ++runs[i]; });
    for (const auto& number : runs) EXPECT_EQ(number, 1);
  }
}

TEST(Lanes, GiveAPieceOneThreadAndLeaveTheCallersNumber) {
  const int before = at::get_num_threads();
  std::atomic<int> most{0};
  Lanes(at::kCPU).run(8, [&](std::size_t) { most = std::max(most.load(), at::get_num_threads()); });
  EXPECT_EQ(most, 1);
  EXPECT_EQ(at::get_num_threads(), before);
}

TEST(Lanes, ComputeTheSameBitsForAnyNumberOfThreads) {
  const auto x = at::randn({16, 64, 32, 32}), weight = at::randn({64, 64, 3, 3});
  const auto convolved = [&] {
    at::Tensor y;
    Lanes(at::kCPU).run(1, [&](std::size_t) { y = at::conv2d(x, weight); });
    return y;
  };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = convolved();
  at::set_num_threads(3);
  EXPECT_TRUE(at::equal(convolved(), alone));
  at::set_num_threads(before);
}

TEST(Lanes, ThrowWhatAPieceThrewAndWorkOn) {
  const Lanes lanes(at::kCPU);
  EXPECT_THROW(lanes.run(5,
                         [](std::size_t i) {
                           if (i == 3) throw std::runtime_error("piece 3");
                         }),
               std::runtime_error);
  std::atomic<int> runs{0};
  lanes.run(5, [&](std::size_t) { ++runs; });
  EXPECT_EQ(runs, 5);
}

TEST(Lanes, RecordNoGraph) {
  const auto x = at::ones({2}).requires_grad_(true);
  bool recorded = true;
  Lanes(at::kCPU).run(1, [&](std::size_t) { recorded = (x * 2).requires_grad(); });
  EXPECT_FALSE(recorded);
}

TEST(ChunkedGradients, AreTheSameBitsForAnyNumberOfThreadsAndChunks) {
  const test::TemporaryFolder folder;
  testing::TinyModelOptions tiny;
  tiny.width = 24;
  testing::make_tiny_model(folder / "denoiser.ts", tiny);
  // Eleven images at three points; the last chunk is padded.
  const auto x = at::randn({33, 3, 8, 8}), direction = at::randn_like(x), sigma = at::rand({33}) * 5 + 0.1;
  const auto gradients = [&](int threads, std::int64_t points_at_once) {
    at::set_num_threads(threads);
    const auto model = open_model({folder / "denoiser.ts", at::kCPU, Precision::kAuto, {}, {4, points_at_once}});
    const auto differentiated = model.denoiser->differentiate(x, sigma, 3, {});
    const auto gradient = differentiated.pullback(direction);
    const auto anew = model.denoiser->pull_back(x, sigma, 3, {}, direction);
    return std::vector<at::Tensor>{differentiated.denoised, gradient.x, gradient.sigma, anew.x, anew.sigma};
  };
  const int before = at::get_num_threads();
  for (const std::int64_t points_at_once : {0, 1}) {
    const auto alone = gradients(1, points_at_once);
    for (const int threads : {2, 3, 5}) {
      const auto together = gradients(threads, points_at_once);
      for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(at::equal(together[i], alone[i])) << threads << i;
    }
    EXPECT_TRUE(at::equal(alone[3], alone[1]) && at::equal(alone[4], alone[2]));
  }
  at::set_num_threads(before);
}

TEST(ChunkDefaults, AreSmallOnTheCpuAndGiveWayToWhatIsAskedFor) {
  const at::Device cpu(at::kCPU), gpu(at::kCUDA, 0);
  EXPECT_EQ(chunk_or_default(0, cpu), 16);
  EXPECT_EQ(chunk_or_default(0, gpu), 64);
  EXPECT_EQ(chunk_or_default(3, gpu), 3);
  EXPECT_EQ(decode_batch_or_default(0, cpu), 1);
  EXPECT_EQ(decode_batch_or_default(0, gpu), 8);
  EXPECT_EQ(decode_batch_or_default(5, cpu), 5);
}

}  // namespace
}  // namespace epd
