"""The pictures of the pages; `python docs/make_pictures.py` draws them."""
