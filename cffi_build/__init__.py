"""Build-time code: the cffi bindings, the frozen tree, the one-file executable."""
