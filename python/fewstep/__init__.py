"""Few-step generative samplers from plan files, into NumPy arrays.

    import fewstep
    session = fewstep.Session("digits.fsp", threads=1)
    session.set_condition("label", 7)
    image = session.sample()  # float32, of session.shape
"""

from ._fewstep import Error, Plan, Session, __version__

__all__ = ["Error", "Plan", "Session", "__version__"]
