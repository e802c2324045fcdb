"""Measures a model: what it paints, beside what real pictures it never saw score in the same test.

`prompts.toml` says what is painted, `evaluate.py` in what order things are measured, `report.py` how it is
told.
"""
