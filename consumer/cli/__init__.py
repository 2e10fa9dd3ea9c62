"""The command `photo-tagger`: one module for each group of commands."""
