"""Training data made by code: backgrounds, brand marks, composites and graded degradations."""
