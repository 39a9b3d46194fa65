"""Files as such: how they are opened, whoever wrote them, and how they are replaced."""
