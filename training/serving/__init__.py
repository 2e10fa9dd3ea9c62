"""Files that are copied into a published version and run inside Triton."""
