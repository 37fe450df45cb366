#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include "epd/denoiser/memory.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

const auto kMeta = at::TensorOptions(at::kMeta).dtype(at::kFloat);

class Memory : public ::testing::Test {
 protected:
  Memory() { testing::make_tiny_model(folder_ / "denoiser.ts"); }

  OpenedModel opened(std::int64_t chunk, std::int64_t points_at_once = 0) const {
    return open_without_data({folder_ / "denoiser.ts", at::kCPU, Precision::kAuto, {}, {chunk, points_at_once}});
  }

  const test::TemporaryFolder folder_;
};

TEST_F(Memory, IsCountedWhileItIsHeld) {
  at::Tensor kept;
  const auto before = held_bytes();
  EXPECT_EQ(peak_bytes([&] {
              const auto x = at::zeros({1000}, kMeta);
              kept = x + 1;
            }),
            8000);
  EXPECT_EQ(held_bytes() - before, 4000);
  kept.reset();
  EXPECT_EQ(held_bytes(), before);
}

TEST_F(Memory, OfRecomputedGradientsIsThatOfOneChunk) {
  const auto model = opened(4);
  const auto of = [&](std::int64_t images, bool keep) {
    const auto x = at::zeros({images, 3, 8, 8}, kMeta), sigma = at::ones({images}, kMeta);
    return peak_bytes([&] {
      if (keep) {
        model.denoiser->differentiate(x, sigma, 1, {}).pullback(x);
      } else {
        model.denoiser->pull_back(x, sigma, 1, {}, x);
      }
    });
  };
  const std::int64_t result = 3 * 64 * 4 + 4;  // bytes of one image's gradients by x and sigma
  EXPECT_EQ(of(40, false) - of(4, false), 36 * result);
  EXPECT_GT(of(40, true), 7 * of(4, false));
}

TEST_F(Memory, OfOnePointAtATimeIsThatOfOnePoint) {
  const auto all = chunk_bytes(opened(4), 4, 4, true), single = chunk_bytes(opened(4, 1), 4, 4, true);
  EXPECT_LT(2 * single, all);
  EXPECT_GT(single, chunk_bytes(opened(4), 4, 1, true));
}

TEST_F(Memory, ContinuesFromTwoChunks) {
  const auto work = [](std::int64_t images) { at::zeros({3 + images}, kMeta.dtype(at::kByte)); };
  for (const std::int64_t images : {1, 4, 5, 8, 9, 100}) EXPECT_EQ(peak_bytes(images, 4, work), 3 + images);
}

TEST_F(Memory, OfAttentionHasNoMatrixOfProducts) {
  const auto q = at::zeros({1, 2, 500, 8}, kMeta).requires_grad_();
  EXPECT_LT(peak_bytes([&] {
              const auto sum = at::scaled_dot_product_attention(q, q, q).sum();
              torch::autograd::grad({sum}, {q});
            }),
            500 * 500 * 4);
}

TEST_F(Memory, AnOperationOfTheCpuAloneHasItsShapeFromThere) {
  peak_bytes([] {
    EXPECT_EQ(at::histc(at::zeros({10}, kMeta), 7).sizes(), at::IntArrayRef({7}));
    EXPECT_EQ(at::one_hot(at::zeros({3}, kMeta.dtype(at::kLong)), 5).sizes(), at::IntArrayRef({3, 5}));
    EXPECT_EQ(at::quantile(at::zeros({3, 10}, kMeta), 0.5, 1).sizes(), at::IntArrayRef({3}));
  });
}

TEST_F(Memory, IsNotKnownWithAReason) {
  EXPECT_EQ(text_or_why([]() -> MemoryNeed { throw Error("no such file"); }), "memory: not known (no such file)");
}

TEST_F(Memory, OfTheDefaultChunkDecidesOnlyWhereADeviceHasItsOwn) {
  ModelOptions model{folder_ / "denoiser.ts", at::kCPU, Precision::kAuto, {}, {0, 0}};
  EXPECT_EQ(chunk_that_fits(model, {}), 16);
  EXPECT_EQ(chunk_that_fits(model, {.gradients = true, .most = 8}), 16);
  model.chunks.chunk = 100;
  EXPECT_EQ(chunk_that_fits(model, {.gradients = true}), 100);
}

}  // namespace
}  // namespace epd
