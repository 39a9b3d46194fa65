"""The routes of the API, one module each."""
