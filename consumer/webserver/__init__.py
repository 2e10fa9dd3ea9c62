"""The web page `photo-tagger web`: what the service does now, for people with a browser."""
