"""A model as one file that small programs read: in C, in the browser, and in Python alone."""
