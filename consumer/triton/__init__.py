"""The Triton edge: the model contract as served, and inference. Owns tritonclient."""
