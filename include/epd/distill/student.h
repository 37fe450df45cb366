#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "epd/distill/train_options.h"

namespace epd {

/// A run of the student that is being written, step after step.
class StudentRun {
 public:
  virtual ~StudentRun() = default;
  /// The plan with one more step, whose coefficients are made of `raw`; those of the steps before stay as they were.
  virtual const Plan<Dual>& advance(const std::vector<Dual>& raw) = 0;
};

/// What a trainer teaches: raw parameters, and the runs that they make.
class Student {
 public:
  virtual ~Student() = default;
  /// The raw parameters before the first iteration.
  virtual const std::vector<double>& start() const = 0;
  virtual PredictorSpec predictor(const std::vector<double>& raw) const = 0;
  /// The steps of a run, whose ends can be compared with the teacher's states; 1 for a plan as a whole.
  virtual std::size_t num_steps() const = 0;
  virtual std::unique_ptr<StudentRun> begin() const = 0;
};

/// The student that begins as the predictor `start` on the grid `t`, unless it has times of its own; `rates` are of
/// kind ns.
std::unique_ptr<Student> make_student(PredictorSpec start, const NsRates& rates, const TimeSteps& t);

}  // namespace epd
