"""The photo tagger service: photo-upload events in, quality and brand tags out."""

__version__ = "0.1.0"
