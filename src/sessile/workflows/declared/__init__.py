"""Workflows that are declared as data: their elements, and how these are drawn."""
