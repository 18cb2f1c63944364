"""Chat templates, one per file; the file's name is the template's name in a recipe.

A file defines `JINJA`, and `CONTROLS`: the control tokens that the template needs in a model's tokenizer. Where no
tokenizer is open, the first serves as the begin-of-text token and the last as the token that ends an answer.
"""
