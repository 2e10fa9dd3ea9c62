"""Files that travel with a published version and run inside Triton."""
