#include "epd/distill/student.h"

#include <optional>
#include <utility>

#include "epd/solver/make_plan.h"

namespace epd {
namespace {

class EpdStudentRun : public StudentRun {
 public:
  EpdStudentRun(const PredictorSpec& spec, const TimeSteps& t) : spec_(spec), t_(t) {}

  const Plan<Dual>& advance(const std::vector<Dual>& raw) override {
    if (step_ == 0) {
      solver_ = student_solver(spec_, raw);
    } else {
      solver_->set_table(epd_table(spec_, raw));
    }
    x_ = append_step(plan_, *solver_, x_, t_, step_, spec_.afs);
    ++step_;
    return plan_.plan();
  }

 private:
  const PredictorSpec& spec_;
  const TimeSteps& t_;
  std::optional<EpdSolver<Dual>> solver_;
  PlanBuilder<Dual> plan_;
  Expression<Dual> x_ = plan_.start();
  std::size_t step_ = 0;
};

/// Kinds epd and ipndm.
class EpdStudent : public Student {
 public:
  EpdStudent(PredictorSpec spec, TimeSteps t) : spec_(std::move(spec)), t_(std::move(t)) {}

  const std::vector<double>& start() const override { return spec_.parameters().raw; }
  PredictorSpec predictor(const std::vector<double>& raw) const override {
    PredictorSpec spec = spec_;
    spec.parameters().raw = raw;
    return spec;
  }
  std::size_t num_steps() const override { return spec_.num_intervals(); }
  std::unique_ptr<StudentRun> begin() const override { return std::make_unique<EpdStudentRun>(spec_, t_); }

 private:
  PredictorSpec spec_;
  TimeSteps t_;
};

/// Kind ns: the parameters change a whole plan.
class NsStudent : public Student {
 public:
  NsStudent(PredictorSpec spec, NsRates rates)
      : spec_(std::move(spec)), rates_(rates), start_(epd::num_parameters(*spec_.plan()), 0.0) {}

  const std::vector<double>& start() const override { return start_; }
  PredictorSpec predictor(const std::vector<double>& raw) const override {
    PredictorSpec spec = spec_;
    spec.set_plan(with_parameters(*spec_.plan(), rates_, raw));
    return spec;
  }
  std::size_t num_steps() const override { return 1; }
  std::unique_ptr<StudentRun> begin() const override { return std::make_unique<Whole>(*this); }

 private:
  struct Whole : StudentRun {
    explicit Whole(const NsStudent& of) : student(of) {}
    const Plan<Dual>& advance(const std::vector<Dual>& raw) override {
      plan = write_plan(with_parameters(*student.spec_.plan(), student.rates_, raw));
      return plan;
    }
    const NsStudent& student;
    Plan<Dual> plan;
  };

  PredictorSpec spec_;
  NsRates rates_;
  std::vector<double> start_;
};

}  // namespace

std::unique_ptr<Student> make_student(PredictorSpec start, const NsRates& rates, const TimeSteps& t) {
  if (start.plan()) return std::make_unique<NsStudent>(std::move(start), rates);
  return std::make_unique<EpdStudent>(std::move(start), t);
}

}  // namespace epd
