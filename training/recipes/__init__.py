"""Recipes: everything that decides a run, as data."""
