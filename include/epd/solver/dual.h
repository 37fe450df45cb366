#pragma once

#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace epd {

/// A number that carries its gradient with respect to the learned parameters (forward-mode differentiation).
/// A solver has a few dozen parameters, so a dense gradient beside each coefficient of its plan costs nothing, and a
/// plan written in Dual says how every coefficient changes with every parameter without any tape. With r = 0.3 as the
/// only parameter:
///   const Dual r = Dual::parameter(0.3, 0, 1);
///   const Dual t_mid = pow(2, r) * pow(8, 1 - r);    // t_next = 2, t_cur = 8
///   t_mid.value()                                    // 5.278, the point itself
///   t_mid.gradient()[0]                              // -7.317 = t_mid ln(2 / 8), how it changes with r
class Dual {
 public:
  Dual(double value = 0) : value_(value) {}  // NOLINT: a plain number is a constant
  Dual(double value, std::vector<double> gradient) : value_(value), gradient_(std::move(gradient)) {}

  /// Parameter number `index` of `count`, with the value it has now.
  static Dual parameter(double value, std::size_t index, std::size_t count) {
    Dual result(value, std::vector<double>(count, 0.0));
    result.gradient_[index] = 1;
    return result;
  }

  double value() const { return value_; }
  /// d value / d parameter, empty for a constant.
  const std::vector<double>& gradient() const { return gradient_; }

  /// The number f(value) whose derivative by this one is `slope`.
  Dual chain(double f, double slope) const {
    Dual result(f, gradient_);
    for (double& g : result.gradient_) g *= slope;
    return result;
  }

  Dual& operator+=(const Dual& b) {
    value_ += b.value_;
    add_gradient(b.gradient_, 1);
    return *this;
  }
  Dual& operator-=(const Dual& b) {
    value_ -= b.value_;
    add_gradient(b.gradient_, -1);
    return *this;
  }
  Dual& operator*=(const Dual& b) {
    Dual product = chain(value_ * b.value_, b.value_);  // a copy, since b may be *this
    product.add_gradient(b.gradient_, value_);
    return *this = std::move(product);
  }
  Dual& operator/=(const Dual& b) {
    Dual quotient = chain(value_ / b.value_, 1 / b.value_);  // the value is rounded as a plain number's is
    quotient.add_gradient(b.gradient_, -value_ / (b.value_ * b.value_));
    return *this = std::move(quotient);
  }

  friend Dual operator-(const Dual& a) { return a.chain(-a.value_, -1); }
  friend Dual operator+(Dual a, const Dual& b) { return a += b; }
  friend Dual operator-(Dual a, const Dual& b) { return a -= b; }
  friend Dual operator*(Dual a, const Dual& b) { return a *= b; }
  friend Dual operator/(Dual a, const Dual& b) { return a /= b; }

 private:
  void add_gradient(const std::vector<double>& other, double factor) {
    if (other.empty()) return;
    if (gradient_.empty()) gradient_.assign(other.size(), 0.0);
    for (std::size_t i = 0; i < other.size(); ++i) gradient_[i] += factor * other[i];
  }

  double value_;
  std::vector<double> gradient_;
};

inline Dual exp(const Dual& a) { return a.chain(std::exp(a.value()), std::exp(a.value())); }
/// base^exponent for a fixed, positive base.
inline Dual pow(double base, const Dual& exponent) {
  const double power = std::pow(base, exponent.value());
  return exponent.chain(power, power * std::log(base));
}

/// The plain number behind either kind, for code that is written for both.
inline double value_of(double a) { return a; }
inline double value_of(const Dual& a) { return a.value(); }

/// The number without its gradient: a constant from here on.
inline double detached(double a) { return a; }
inline Dual detached(const Dual& a) { return Dual(a.value()); }

}  // namespace epd
