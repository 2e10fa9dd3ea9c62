"""The photo tagger service: photo-upload events in, quality and brand tags out."""
