"""The command `photo-trainer`: one module for each group of commands."""
