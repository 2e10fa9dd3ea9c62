"""TensorRT engines: built from published versions inside the serving image, on the GPU that serves; without torch."""
