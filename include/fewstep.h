/* The C interface of fewstep. Made by cbindgen of src/ffi.rs: do not edit. */

#ifndef FEWSTEP_H
#define FEWSTEP_H

#include <stddef.h>
#include <stdint.h>

// Grows when a function, a type or what they mean changes. Compare with `fewstep_abi_version()`.
#define FEWSTEP_ABI_VERSION 1

// How a call ended.
typedef enum {
  FEWSTEP_OK = 0,
  // A null pointer, a wrong length or name, a value out of range, or a condition without a value.
  FEWSTEP_ARGUMENT = 1,
  // The file cannot be read.
  FEWSTEP_FILE = 2,
  // The file is damaged, of another version, or no plan that can be sampled.
  FEWSTEP_PLAN = 3,
  // This CPU cannot run the plan.
  FEWSTEP_UNSUPPORTED = 4,
  // The system does not give the memory or the threads, or the plan does not fit `max_memory`.
  FEWSTEP_RESOURCES = 5,
  // The network returned values that are not finite.
  FEWSTEP_NOT_FINITE = 6,
  // The caller's function has ended the sample.
  FEWSTEP_CANCELLED = 7,
  // A mistake in fewstep; please report it.
  FEWSTEP_INTERNAL = 8,
} fewstep_status;

// What products are computed in.
typedef enum {
  // f32; what there is, if the plan has no f32.
  FEWSTEP_F32 = 0,
  FEWSTEP_F16 = 1,
  // The first of the plan file's that this CPU runs.
  FEWSTEP_AUTO = 2,
} fewstep_precision;

// A plan file, mapped into memory. Any number of threads may use it at once; sessions keep it open for as long as they need it.
typedef struct fewstep_plan fewstep_plan;

// A model that is ready to be sampled. It may move between threads, but one at a time may use it.
typedef struct fewstep_session fewstep_session;

// How samples are to be drawn. Zeros stand for what the plan file or the computer has, so `{0}` is a good beginning.
typedef struct {
  // Threads to use; 0 for as many as the CPU runs at once, 1 for none but the caller's.
  size_t threads;
  // Network evaluations a sample; 0 for the plan's.
  size_t steps;
  // A sampler in the place of the plan's, as `fewstep list samplers` has them, or null.
  const char *sampler;
  // The scale of guidance in the place of the plan's, or null.
  const double *guidance;
  // The seed of the first sample's noise, as PyTorch draws it on a CPU; the next sample has the next seed.
  uint64_t seed;
  // A `fewstep_precision`.
  uint32_t precision;
  // Whether to bring all weights into memory beforehand: 0 or 1.
  uint32_t prefault;
  // Bytes of memory that the process may take, on Linux; 0 for any.
  size_t max_memory;
} fewstep_options;

// Called after each step, by the thread that samples, which may be one of the session's own; the caller waits meanwhile.
// `clean` is the sample as the step saw it. Returns 0 to end the sample, anything else to go on.
typedef int32_t (*fewstep_after)(void *user, size_t step, size_t steps, const float *clean, size_t count);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the interface that the library has.
uint32_t fewstep_abi_version(void);

// What went wrong in the last call of this thread that failed, in UTF-8. Valid until another call of this thread fails.
const char *fewstep_last_error(void);

// Maps and checks a plan file. Its weights are not read; see `fewstep_plan_verify`.
//
// # Safety
// `path` is a text that ends in a zero, in UTF-8, and `plan` is writable. Nobody changes the file while it is open.
fewstep_status fewstep_plan_open(const char *path,
                                 fewstep_plan **plan);

// Compares the weights with their checksum, which reads them all.
//
// # Safety
// `plan` is open.
fewstep_status fewstep_plan_verify(const fewstep_plan *plan);

// Closes a plan file; nothing happens to its sessions. Null is closed already.
//
// # Safety
// `plan` is open, and not used again.
void fewstep_plan_close(fewstep_plan *plan);

// Allocates everything that samples of a plan need. `options` may be null for what `{0}` says.
//
// # Safety
// `plan` is open, `options` and what it points at can be read, `session` is writable.
fewstep_status fewstep_session_new(const fewstep_plan *plan,
                                   const fewstep_options *options,
                                   fewstep_session **session);

// Frees a session. Null is free already.
//
// # Safety
// `session` is not in use, and not used again.
void fewstep_session_free(fewstep_session *session);

// Values of a sample; 0 for null.
//
// # Safety
// `session` is a session or null.
size_t fewstep_session_elements(const fewstep_session *session);

// Network evaluations a sample; 0 for null.
//
// # Safety
// `session` is a session or null.
size_t fewstep_session_steps(const fewstep_session *session);

// Writes as many of a sample's dimensions as there is room for, and how many there are to `rank`.
//
// # Safety
// `session` is a session, there is room for `room` values at `dims`, `rank` is writable.
fewstep_status fewstep_session_shape(const fewstep_session *session, size_t *dims, size_t room, size_t *rank);

// Sets a condition for the samples to come: one value for all its elements, or one for each. Allocates nothing.
//
// # Safety
// `session` is a session, `name` a text that ends in a zero, and there are `count` values.
fewstep_status fewstep_session_set_condition(fewstep_session *session,
                                             const char *name,
                                             const double *values,
                                             size_t count);

// Sets what guidance moves away from, as `fewstep_session_set_condition`.
//
// # Safety
// As there.
fewstep_status fewstep_session_set_negative(fewstep_session *session,
                                            const char *name,
                                            const double *values,
                                            size_t count);

// The seed of the next sample's noise.
//
// # Safety
// `session` is a session.
fewstep_status fewstep_session_set_seed(fewstep_session *session, uint64_t seed);

// Draws one sample into `out`, which has room for `count` values: as many as `fewstep_session_elements` says. `noise` is
// null, or `count` unit normal values in the place of those that the seed would give. Allocates nothing.
//
// # Safety
// `session` is a session, there is room at `out`, there are values at `noise` that are not those of `out`.
fewstep_status fewstep_session_sample(fewstep_session *session,
                                      const float *noise,
                                      float *out,
                                      size_t count);

// As `fewstep_session_sample`, and calls `after` with `user` after each step.
//
// # Safety
// As there; and `after` may be called with these arguments, on another thread.
fewstep_status fewstep_session_sample_watched(fewstep_session *session,
                                              const float *noise,
                                              float *out,
                                              size_t count,
                                              fewstep_after after,
                                              void *user);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FEWSTEP_H */
