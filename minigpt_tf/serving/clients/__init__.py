"""Clients of the API: for scripts, bots and the page in Streamlit."""
