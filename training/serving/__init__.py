"""What a published version is made of: the backend that Triton runs, names and bounds of files, the decision."""
