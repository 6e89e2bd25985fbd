"""Recipes: reading YAML as its authors mean it, dotted overrides, and errors that name every wrong key at once."""
