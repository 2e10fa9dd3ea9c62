"""The demo: everything at once on one laptop, from photo-upload events to a gallery of tags and dead letters."""
