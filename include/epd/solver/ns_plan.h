#pragma once

#include <cstddef>
#include <vector>

#include "epd/solver/plan.h"

namespace epd {

/// A state of a run in global form, and its noise level:
///   x = start x_0 + sum_i weights_i D_i + sum_j noise_j n_j
/// over x_0 = x(t_0), the images that were denoised in the stages before, and draws n_j of unit Gaussian noise.
template <class S>
struct NsPoint {
  S sigma;
  S start;
  std::vector<S> weights;
  std::vector<S> noise = {};
};

/// A solver's whole run in global form: stage after stage, the points of a stage in one parallel forward, then the end
/// state. Every deterministic solver is such a plan (Shaul et al. 2024, arXiv 2403.01329, section 3), so that learning
/// its numbers searches all of them.
template <class S>
struct NsPlan {
  double t_0 = 80;    // noise level of x_0
  bool mean = false;  // D_0 is the mean of the data, which costs no evaluation
  std::vector<std::vector<NsPoint<S>>> stages;
  NsPoint<S> end;

  /// The points of the largest stage.
  std::size_t num_points() const;
};

/// The plan, or throws Error, "plan: ...", unless every number is finite, every noise level positive, and every state
/// built on all the denoised images of the stages before it and on no others.
const NsPlan<double>& validated(const NsPlan<double>& plan);

/// The run as a program of instructions.
template <class S>
Plan<S> write_plan(const NsPlan<S>& plan);

/// Any plan from t_0 to t_end in global form: the same states, with the registers between them eliminated.
NsPlan<double> global_form(const Plan<double>& plan, double t_0, double t_end);

/// The plan with `num_points` points in every stage but one that is x_0 alone. Later points give an extra point's image
/// no weight yet, so that the end state is the same. Its noise level is `shift` times the stage's (a third point's
/// shift^2 times), its state on the line from the stage's first state to that of the stage before (or x_0), short of
/// it.
NsPlan<double> with_extra_points(const NsPlan<double>& plan, int num_points, double shift);

/// Learning rates of the numbers of a plan.
struct NsRates {
  double weights = 0.01, times = 0.02, sigmas = 0.005;
};

/// How many numbers of the plan are learned. A state that is x_0 alone stays as it is, and so do the noise level of the
/// end state and the shares of start and noise in it.
std::size_t num_parameters(const NsPlan<double>& plan);

/// The plan after learning: raw parameters, all 0 at `start`, change
///   a point's time: its sigma, start and noise     by the factor exp(rates.times raw),
///   its sigma alone                                by the factor exp(rates.sigmas raw),
///   each of its weights                            by rates.weights raw,
/// so that a step of Adam in `raw` is one of the group's own rate.
template <class S>
NsPlan<S> with_parameters(const NsPlan<double>& start, const NsRates& rates, const std::vector<S>& raw);

}  // namespace epd
