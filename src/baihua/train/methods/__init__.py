"""One file per training method; the file's name is the method's `kind` in a recipe.

Each has a `Config`, the kind of artifact it makes (`OUTPUT`) and four functions:

    load(folder, precision, device) -> model           the base weights as the method holds them in memory
    prepare(model, config) -> model                    with exactly the parameters trainable that it trains, float32
    rate_factor(name, config) -> float                 what to multiply the learning rate with for a parameter
    save(model, out, base, jinja, state)               written beside the tokenizer and the chat template

`state` holds the trained tensors by name, whole and on the CPU: in memory they may be shards of several processes.
torch and peft are imported inside the functions: a recipe is checked without them.
"""
