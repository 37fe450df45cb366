#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "epd/solver/dual.h"

namespace epd {

/// Where a run keeps a tensor: the start state, a state, or a denoised image.
using Register = int;

/// A weighted sum of registers, sum_i c_i r_i: a state or a direction before anything is computed.
/// S is `double`, or `Dual` for a student whose coefficients are learned. A term may be marked as detached: its
/// coefficient still learns, but no gradient flows into the register through it.
template <class S>
class Expression {
 public:
  struct Term {
    Register source;
    S coefficient;
    bool detached = false;
  };

  Expression() = default;
  explicit Expression(Register source) : terms_{{source, 1}} {}
  /// Its terms as they are.
  explicit Expression(std::vector<Term> terms) : terms_(std::move(terms)) {}

  const std::vector<Term>& terms() const { return terms_; }

  /// The register that this expression is, unchanged.
  std::optional<Register> as_register() const {
    const bool plain = terms_.size() == 1 && !terms_[0].detached && is_constant(terms_[0].coefficient, 1);
    return plain ? std::optional(terms_[0].source) : std::nullopt;
  }

  /// The same sum without the terms that are 0 whatever is learned: they would only keep a register alive.
  Expression without_zeros() const {
    Expression result;
    for (const Term& term : terms_) {
      if (!is_constant(term.coefficient, 0)) result.terms_.push_back(term);
    }
    return result;
  }

  Expression& operator+=(const Expression& other) {
    for (const Term& term : other.terms_) add(term, 1);
    return *this;
  }
  Expression& operator-=(const Expression& other) {
    for (const Term& term : other.terms_) add(term, -1);
    return *this;
  }
  Expression& operator*=(const S& factor) {
    for (Term& term : terms_) term.coefficient *= factor;
    return *this;
  }
  Expression& operator/=(const S& divisor) {
    for (Term& term : terms_) term.coefficient /= divisor;
    return *this;
  }

  friend Expression operator+(Expression a, const Expression& b) { return a += b; }
  friend Expression operator-(Expression a, const Expression& b) { return a -= b; }
  friend Expression operator*(const S& factor, Expression a) { return a *= factor; }
  friend Expression operator/(Expression a, const S& divisor) { return a /= divisor; }

  /// The same sum as a constant: neither its coefficients nor its registers pass a gradient on.
  friend Expression detached(const Expression& a) {
    Expression result;
    for (const Term& term : a.terms_) result.terms_.push_back({term.source, detached(term.coefficient), true});
    return result;
  }

 private:
  static bool is_constant(double c, double value) { return c == value; }
  static bool is_constant(const Dual& c, double value) { return c.value() == value && c.gradient().empty(); }

  void add(const Term& term, const S& factor) {
    for (Term& mine : terms_) {
      if (mine.source == term.source && mine.detached == term.detached) {
        mine.coefficient += factor * term.coefficient;
        return;
      }
    }
    terms_.push_back({term.source, factor * term.coefficient, term.detached});
  }

  std::vector<Term> terms_;
};

}  // namespace epd
