"""Bots for messengers: clients of the API, each a process of its own."""
