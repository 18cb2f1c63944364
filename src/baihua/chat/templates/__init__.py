"""One file per chat template; the file's name is the template's name in a recipe.

A file holds `JINJA`, and `CONTROLS`: the control tokens that its form expects of a model's tokenizer. The first
begins a text and the last ends an answer, where the model's own names for these two are not at hand.
"""
