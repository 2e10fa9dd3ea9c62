"""Recipes: all settings of a run, as data."""
