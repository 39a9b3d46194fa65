"""Files, folders, URLs and databases -> text, sheets and rows. What reads a format is here."""
