"""Makes the two models: data, training, evaluation, export and publishing.

Nothing here imports `consumer`: the Triton model repository is the only interface between the two.
"""
