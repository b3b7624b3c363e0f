"""Draws one sample of a plan file through the C interface, into a NumPy array: sample.py LIBRARY PLAN.fsp [NAME=VALUE]..."""

import ctypes
import sys

import numpy as np

library, plan_file, *conditions = sys.argv[1:]
fewstep = ctypes.CDLL(library)
fewstep.fewstep_last_error.restype = ctypes.c_char_p
fewstep.fewstep_session_elements.restype = ctypes.c_size_t
fewstep.fewstep_session_elements.argtypes = [ctypes.c_void_p]


class Options(ctypes.Structure):
    """fewstep_options."""

    _fields_ = [
        ("threads", ctypes.c_size_t),
        ("steps", ctypes.c_size_t),
        ("sampler", ctypes.c_char_p),
        ("guidance", ctypes.POINTER(ctypes.c_double)),
        ("seed", ctypes.c_uint64),
        ("precision", ctypes.c_uint32),
        ("prefault", ctypes.c_uint32),
        ("max_memory", ctypes.c_size_t),
    ]


def check(status):
    if status:
        sys.exit(f"error {status}: {fewstep.fewstep_last_error().decode()}")


def pointer(array, kind):
    return array.ctypes.data_as(ctypes.POINTER(kind))


plan, session = ctypes.c_void_p(), ctypes.c_void_p()
check(fewstep.fewstep_plan_open(plan_file.encode(), ctypes.byref(plan)))
check(fewstep.fewstep_session_new(plan, ctypes.byref(Options(threads=1, seed=42)), ctypes.byref(session)))
for condition in conditions:
    name, value = condition.split("=")
    values = np.array([float(value)])
    check(fewstep.fewstep_session_set_condition(session, name.encode(), pointer(values, ctypes.c_double), ctypes.c_size_t(1)))
sample = np.empty(fewstep.fewstep_session_elements(session), np.float32)
check(fewstep.fewstep_session_sample(session, None, pointer(sample, ctypes.c_float), ctypes.c_size_t(sample.size)))
print("\n".join(f"{value:.9g}" for value in sample))
fewstep.fewstep_session_free(session)
fewstep.fewstep_plan_close(plan)
