"""A program that wedges; see its main module."""
