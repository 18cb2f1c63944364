"""One file per training method; the file's name is the method's `kind` in a recipe.

Each has a `Config`, the kind of artifact it makes (`OUTPUT`) and three functions:

    base_dtype(precision)                   in which the weights are loaded when computing in that precision
    prepare(model, config) -> model         with exactly the parameters trainable that the method trains
    save(model, out, *, base, jinja)        written beside the tokenizer and the chat template

torch and peft are imported inside the functions: a recipe is checked without them.
"""
