"""What a run leaves for a person: figures, tables and text."""
