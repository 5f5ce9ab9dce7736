"""How each kind of value is stored, so that it comes back exactly.

From the inside out: ``kinds`` says what a kind is; ``plain`` what JSON says by itself. The kinds are
``standard``, ``times``, ``classes`` and ``pickles`` (Python's own and the user's), ``arrays`` (NumPy),
``arrow`` (Arrow tables), ``columns``, ``frames`` and ``pandas_scalars`` (pandas). ``registry`` finds the kind of a
value; ``walk`` goes through a value, and through what is stored, part by part. ``durably_nb.codecs`` uses it.
"""
