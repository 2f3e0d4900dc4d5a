"""How answers are shown: text, witnesses in VNN-LIB's forms, JSON files, tables. Results in, text out."""
