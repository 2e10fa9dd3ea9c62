"""From a trained network to a version in the model repository: export, precisions, parity, gate, files."""
