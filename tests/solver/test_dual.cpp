#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "epd/solver/dual.h"

namespace epd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// Holds value and gradient of f(a, b) to those of plain numbers by central differences.
template <class Dualised>
void expect_gradient(const Dualised& f, const std::function<double(double, double)>& plain, double a, double b) {
  const Dual result = f(Dual::parameter(a, 0, 2), Dual::parameter(b, 1, 2));
  constexpr double kStep = 1e-6;
  EXPECT_DOUBLE_EQ(result.value(), plain(a, b));
  ASSERT_EQ(result.gradient().size(), 2u);
  EXPECT_NEAR(result.gradient()[0], (plain(a + kStep, b) - plain(a - kStep, b)) / (2 * kStep), 1e-8);
  EXPECT_NEAR(result.gradient()[1], (plain(a, b + kStep) - plain(a, b - kStep)) / (2 * kStep), 1e-8);
}

TEST(Dual, ArithmeticCarriesBothGradients) {
  for (const double a : {-1.7, 0.4, 2.3}) {
    for (const double b : {-0.9, 1.6}) {
      expect_gradient([](auto x, auto y) { return x + y; }, [](double x, double y) { return x + y; }, a, b);
      expect_gradient([](auto x, auto y) { return x - y; }, [](double x, double y) { return x - y; }, a, b);
      expect_gradient([](auto x, auto y) { return x * y; }, [](double x, double y) { return x * y; }, a, b);
      expect_gradient([](auto x, auto y) { return x / y; }, [](double x, double y) { return x / y; }, a, b);
      expect_gradient([](auto x, auto y) { return -x * y; }, [](double x, double y) { return -x * y; }, a, b);
    }
  }
}

TEST(Dual, FunctionsCarryTheirSlopes) {
  expect_gradient([](auto x, auto y) { return exp(x) * exp(y); },
                  [](double x, double y) { return std::exp(x) * std::exp(y); }, 0.3, 2.0);
  expect_gradient([](auto x, auto y) { return pow(0.002, x) * pow(80.0, y); },
                  [](double x, double y) { return std::pow(0.002, x) * std::pow(80.0, y); }, 0.3, 0.7);
}

TEST(Dual, CombinedWithItselfIsDifferentiatedTwice) {
  const Dual x = Dual::parameter(3, 0, 1);
  const auto changed = [&](auto change) {
    Dual y = x;
    change(y);
    return y;
  };
  const Dual squared = changed([](Dual&y) { y *= y; }), twice = changed([](Dual&y) { y += y; });
  const Dual zero = changed([](Dual&y) { y -= y; }), one = changed([](Dual&y) { y /= y; });
  EXPECT_EQ(squared.value(), 9);
  EXPECT_THAT(squared.gradient(), ElementsAre(6));
  EXPECT_THAT(twice.gradient(), ElementsAre(2));
  EXPECT_THAT(zero.gradient(), ElementsAre(0));
  EXPECT_NEAR(one.gradient()[0], 0, 1e-16);
}

TEST(Dual, ConstantsHaveNoGradient) {
  EXPECT_THAT(Dual(2.5).gradient(), IsEmpty());
  EXPECT_THAT((Dual(2) * Dual(3) - Dual(1) / Dual(4)).gradient(), IsEmpty());
  EXPECT_THAT((Dual(2) * Dual::parameter(3, 1, 2)).gradient(), ElementsAre(0, 2));
  EXPECT_THAT((Dual::parameter(3, 1, 2) + Dual(5)).gradient(), ElementsAre(0, 1));
}

TEST(Dual, DetachedKeepsTheValueAlone) {
  const Dual x = detached(exp(Dual::parameter(1, 0, 1)));
  EXPECT_EQ(value_of(x), std::exp(1));
  EXPECT_THAT(x.gradient(), IsEmpty());
  EXPECT_EQ(detached(1.5), 1.5);
}

}  // namespace
}  // namespace epd
