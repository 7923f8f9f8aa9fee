"""The tree: packing, staging and unpacking it, and standing in for a program of init."""
