"""Keras model files, .h5 and .keras: what their configuration says, without Keras and its code.

`architecture` reads the tree of layers, `graph` flattens it into the calls of its layers,
`recognition` finds in them a model that our engine runs; `files` opens a file and its weights, and
`reading` makes a `Source` of both.
"""
