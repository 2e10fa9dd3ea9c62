"""Pages for people: the gallery of tagged photos and dead letters, one self-contained HTML file."""
