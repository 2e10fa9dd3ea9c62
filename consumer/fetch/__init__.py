"""The photo's bytes by URI: HTTP, files and object stores, within limits and from allowed places only."""
