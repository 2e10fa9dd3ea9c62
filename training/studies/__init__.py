"""The five published studies behind the models: each runs on the user's copy of its data, and writes a page.

A study's package holds its `STUDY`, which imports nothing heavy, and the modules that run it.
"""
