// fewstep for C++17: owners of what fewstep.h makes, and exceptions in the place of statuses.
#ifndef FEWSTEP_HPP
#define FEWSTEP_HPP

#include "fewstep.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace fewstep {

/// Why a call did not do what it should.
class Error : public std::runtime_error {
public:
    explicit Error(fewstep_status status) : std::runtime_error(fewstep_last_error()), status_(status) {}

    fewstep_status status() const noexcept { return status_; }

private:
    fewstep_status status_;
};

inline void check(fewstep_status status) {
    if (status != FEWSTEP_OK) throw Error(status);
}

/// A plan file, mapped into memory. Any number of threads may use it at once.
class Plan {
public:
    explicit Plan(const std::string &path) {
        fewstep_plan *plan = nullptr;
        check(fewstep_plan_open(path.c_str(), &plan));
        plan_.reset(plan);
    }

    /// Compares the weights with their checksum, which reads them all.
    void verify() const { check(fewstep_plan_verify(plan_.get())); }

    const fewstep_plan *get() const noexcept { return plan_.get(); }

private:
    struct Close {
        void operator()(fewstep_plan *plan) const noexcept { fewstep_plan_close(plan); }
    };
    std::unique_ptr<fewstep_plan, Close> plan_;
};

/// How samples are to be drawn; what is not said is the plan file's or the computer's.
struct Options {
    std::size_t threads = 0;
    std::size_t steps = 0;
    std::string sampler;
    std::optional<double> guidance;
    std::uint64_t seed = 0;
    fewstep_precision precision = FEWSTEP_F32;
    bool prefault = false;
    std::size_t max_memory = 0;
};

/// A model that is ready to be sampled. One thread at a time may use it.
class Session {
public:
    explicit Session(const Plan &plan, const Options &options = {}) {
        fewstep_options given{};
        given.threads = options.threads;
        given.steps = options.steps;
        given.sampler = options.sampler.empty() ? nullptr : options.sampler.c_str();
        given.guidance = options.guidance ? &*options.guidance : nullptr;
        given.seed = options.seed;
        given.precision = options.precision;
        given.prefault = options.prefault;
        given.max_memory = options.max_memory;
        fewstep_session *session = nullptr;
        check(fewstep_session_new(plan.get(), &given, &session));
        session_.reset(session);
    }

    std::size_t elements() const noexcept { return fewstep_session_elements(session_.get()); }

    std::size_t steps() const noexcept { return fewstep_session_steps(session_.get()); }

    /// The dimensions of a sample.
    std::vector<std::size_t> shape() const {
        std::size_t rank = 0;
        check(fewstep_session_shape(session_.get(), nullptr, 0, &rank));
        std::vector<std::size_t> dims(rank);
        check(fewstep_session_shape(session_.get(), dims.data(), rank, &rank));
        return dims;
    }

    /// One value for all elements of a condition.
    void set_condition(const std::string &name, double value) { set_condition(name, &value, 1); }

    /// One value for all elements of a condition, or one for each. Allocates nothing.
    void set_condition(const std::string &name, const double *values, std::size_t count) {
        check(fewstep_session_set_condition(session_.get(), name.c_str(), values, count));
    }

    /// What guidance moves away from.
    void set_negative(const std::string &name, const double *values, std::size_t count) {
        check(fewstep_session_set_negative(session_.get(), name.c_str(), values, count));
    }

    void set_seed(std::uint64_t seed) { check(fewstep_session_set_seed(session_.get(), seed)); }

    /// Draws a sample into memory that has room for elements() values, from noise if there is any. Allocates nothing.
    void sample(float *out, std::size_t count, const float *noise = nullptr) {
        check(fewstep_session_sample(session_.get(), noise, out, count));
    }

    std::vector<float> sample() {
        std::vector<float> out(elements());
        sample(out.data(), out.size());
        return out;
    }

    fewstep_session *get() noexcept { return session_.get(); }

private:
    struct Free {
        void operator()(fewstep_session *session) const noexcept { fewstep_session_free(session); }
    };
    std::unique_ptr<fewstep_session, Free> session_;
};

} // namespace fewstep

#endif
